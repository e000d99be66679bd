"""Runs: one a key, closed once, found by the beginning of their id."""

from __future__ import annotations

import pytest

from constitution.errors import UserError
from constitution.records import make_id


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
    for wrong in ("", "0x", "a b", runs[0].id.hex() + "0", "ffff\ud800"):
        with pytest.raises(UserError, match="there is no run"):
            store.run(wrong)
    assert store.run(runs[3].id.hex().upper()).id == runs[3].id


def test_runs_come_in_pages_the_newest_first(store):
    kinds = ["improve", "judge", "retrain", "preview"]
    runs = [store.start_run(f"key {number}", kinds[number % 4], {}) for number in range(12)]
    for run in runs[:6]:
        store.finish_run(run.id, "finished", result={"n": 1})
    store.finish_run(runs[7].id, "failed")
    newest = [run.id for run in reversed(runs)]

    def found(**asked):
        return [run.id for run in store.runs(**asked)]

    assert found() == newest
    assert found(most=5) == newest[:5]
    assert found(most=5, before=newest[4]) == newest[5:10]
    assert found(most=5, before=newest[9]) == newest[10:]
    assert found(before=newest[-1]) == []
    loops = [id for id in newest if store.run(id).kind in ("improve", "retrain")]
    assert found(kinds=["retrain", "improve"]) == loops == found(without_kinds=["judge", "preview"])
    assert found(kinds=["improve"], statuses=["finished"], most=1) == [runs[4].id]
    assert found(statuses=["failed", "finished"]) == [run.id for run in [runs[7], *runs[5::-1]]]
    assert found(kinds=[]) == []
    with pytest.raises(KeyError):
        store.runs(before=b"?" * 16)


def test_the_newest_run_that_asked_a_judge(store, world):
    assert store.newest_judged() is None
    runs = [store.start_run(f"key {number}", kind, {}) for number, kind in enumerate(["improve", "preview", "respond"])]
    assert store.newest_judged() is None
    for run in runs[:2]:
        store.add_members(run.id, "answers", [b"a" * 16])
        store.add_members(run.id, "feedback", [b"c" * 16] * 2)
        store.add_members(run.id, "feedback.questions", [b"q" * 16])
    store.add_members(runs[2].id, "questions", [b"q" * 16])  # not the questions of a stage
    store.add_members(runs[2].id, "xquestions", [b"q" * 16])
    assert store.newest_judged().id == runs[1].id
    assert store.newest_judged(["preview", "examples"]).id == runs[0].id
    assert store.newest_judged(["preview", "improve"]) is None
    empty = store.start_run("stopped before its pairs", "improve", {})
    store.add_members(empty.id, "feedback.questions", [b"q" * 16])  # and no pair that they were asked about
    assert store.newest_judged().id == runs[1].id
    for number in range(120):  # more than are looked at together
        store.start_run(f"later {number}", "respond", {})
    assert store.newest_judged().id == runs[1].id
    assert store.stages(runs[0].id) == ["answers", "feedback", "feedback.questions"]
    assert store.stages(make_id("no run")) == []


def test_members_of_a_stage_come_in_pages(store):
    run = store.start_run("key", "improve", {}).id
    ids = [make_id("member", n=n) for n in range(10)]
    store.add_members(run, "feedback", ids, [3 * n for n in range(10)])  # places may be left out
    store.add_members(run, "other", ids[::-1])
    assert store.stage_members(run, "feedback") == ids
    assert store.stage_members(run, "feedback", most=4) == ids[:4]
    assert store.stage_members(run, "feedback", after=ids[3], most=4) == ids[4:8]
    assert store.stage_members(run, "feedback", after=ids[7]) == ids[8:]
    assert store.stage_members(run, "feedback", after=ids[-1], most=4) == []
    for stage, after in (("feedback", b"?" * 16), ("nothing", ids[0])):
        with pytest.raises(KeyError):
            store.stage_members(run, stage, after=after)
