"""Runs: one a key, closed once, found by the beginning of their id."""

from __future__ import annotations

import pytest

from constitution.errors import UserError


def test_starting_a_run_again_goes_on_with_it(store):
    settings = {"seed": 1, "engine": {"kind": "scripted"}}
    run = store.start_run("key", "improve", settings, "v1")
    assert (run.status, run.settings, run.constitution, run.finished) == ("running", settings, "v1", None)
    store.finish_run(run.id, "failed", error="no engine")
    assert (store.run(run.id).status, store.run(run.id).error) == ("failed", "no engine")
    again = store.start_run("key", "improve", settings, "v1")
    assert again == run
    store.finish_run(run.id, "finished", result={"win_rate": 0.7})
    store.finish_run(run.id, "failed", error="too late")
    done = store.start_run("key", "improve", settings, "v1")
    assert (done.status, done.result, done.error) == ("finished", {"win_rate": 0.7}, None)
    assert store.start_run("another key", "improve", settings).id != run.id


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    runs = [store.start_run(f"key {number}", "improve", {}) for number in range(20)]
    for run in runs:
        assert store.run(run.id.hex()[:12]).id == run.id
    assert {run.id for run in store.runs()} == {run.id for run in runs}
    with pytest.raises(UserError, match="there is no run 'zz'"):
        store.run("zz")
    by_digit = {}
    for run in runs:
        by_digit.setdefault(run.id.hex()[0], []).append(run)
    shared = next(digit for digit, several in by_digit.items() if len(several) > 1)
    with pytest.raises(UserError, match="several runs begin with"):
        store.run(shared)
    with pytest.raises(UserError):
        store.run("")
