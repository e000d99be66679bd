"""`precept run list` and `precept run compare`: how each run ended, and two of them side by side."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli import runs
from constitution.records import canonical
from service.queries import runs as queries
from storage.runs import Run
from storage.store import Store


def result(win: float, good: float, tied: int, promoted: bool) -> dict[str, Any]:
    return {
        "before": {"gold_good": 0.25, "mean_tokens": 30.0},
        "after": {"gold_good": good, "mean_tokens": 20.0, "note": "no figure"},
        "win_rate": {"mean": win, "low": win - 0.1, "high": win + 0.1},
        "labels": {"count": 90, "tied": tied, "unreadable": 1, "gold_accuracy": 0.9},
        "promoted": promoted,
        "seconds": {"total": 61.4},
    }


def a_run(store: Store, slot: str, settings: dict[str, Any], outcome: dict[str, Any] | None) -> Run:
    key = canonical({"kind": "improve", "slot": slot})
    run = store.start_run(key, "improve", {"settings": settings, "policy": "models/p"}, "c" * 64)
    if outcome is not None:
        store.finish_run(run.id, "finished", result=outcome)
    return store.run(run.id)


@pytest.fixture
def two(project, store) -> tuple[str, str]:
    a = a_run(store, "mon", {"seed": 0, "revise": {"rounds": 4}, "judge": {"options": {}}}, result(0.8, 0.75, 3, True))
    b = a_run(store, "tue", {"seed": 0, "revise": {"rounds": 2}, "extra": 1}, result(0.5, 0.5, 9, False))
    return a.id.hex(), b.id.hex()


def test_the_list_says_outcome_duration_constitution_and_win_rate(two, store, precept) -> None:
    going = a_run(store, "wed", {"seed": 3}, None)
    failed = a_run(store, "thu", {"seed": 3}, None)
    store.finish_run(failed.id, "failed", error="UserError: a mistake\nwith more to say")
    found = {row["id"]: row for row in precept("run", "list", "--json").json}
    first = found[two[0]]
    assert (first["outcome"], first["seconds"], first["win_rate"]["mean"]) == ("promoted", 61.4, 0.8)
    assert found[two[1]]["outcome"] == "refused"
    assert found[going.id.hex()]["seconds"] is None and found[going.id.hex()]["win_rate"] is None
    assert found[failed.id.hex()]["outcome"] == "UserError: a mistake"
    assert found[failed.id.hex()]["seconds"] >= 0
    assert {"id", "kind", "status", "constitution", "created", "finished", "error"} <= set(first)
    lines = precept("run", "list").out.splitlines()
    assert lines[0].split() == "run flow status begun (UTC) took constitution win rate outcome".split()
    line = next(line for line in lines if line.startswith(two[0][:12]))
    assert "1m 01s" in line and "c" * 12 in line and "0.800" in line and line.rstrip().endswith("promoted")


def test_two_runs_side_by_side(two, precept) -> None:
    found = precept("run", "compare", two[0][:8], two[1][:8], "--json").json
    assert {x["name"]: (x["a"], x["b"]) for x in found["settings"]} == {
        "revise.rounds": (4, 2), "judge.options": ({}, None), "slot": ("mon", "tue"), "extra": (None, 1),
    }  # fmt: skip
    assert {x["name"]: (x["a"], x["b"]) for x in found["figures"]} == {
        "before.gold_good": (0.25, 0.25), "before.mean_tokens": (30.0, 30.0),
        "after.gold_good": (0.75, 0.5), "after.mean_tokens": (20.0, 20.0),
    }  # fmt: skip
    assert [(x["name"], x["a"], x["b"]) for x in found["labels"]] == [
        ("count", 90, 90), ("tied", 3, 9), ("unreadable", 1, 1),
    ]  # fmt: skip
    assert found["win_rate"] == {"a": pytest.approx({"mean": 0.8, "low": 0.7, "high": 0.9}), "b": {
        "mean": 0.5, "low": 0.4, "high": 0.6,
    }}  # fmt: skip
    shown = [line.split() for line in precept("run", "compare", *two).out.splitlines()]
    assert ["revise.rounds", "4", "2"] in shown and ["after.gold_good", "0.75", "0.5"] in shown
    assert ["outcome", "promoted", "refused"] in shown and ["tied", "3", "9"] in shown


def test_two_runs_that_were_measured_alike_are_told_apart_by_prompt(two, store, precept) -> None:
    for run, wins in zip(two, ([1.0, 0.5] * 60, [1.0, 0.5] * 45 + [0.0, 0.5] * 15), strict=True):
        store.put_document("wins", run, {f"{n:032x}": win for n, win in enumerate(wins)})
    found = precept("run", "compare", *two, "--json").json["paired"]
    assert (found["mean"], found["prompts"]) == (-0.125, 120) and found["low"] < found["mean"] < found["high"] < 0
    said = "B's win rate minus A's, paired by 120 prompts: -12.5 points (95% interval -"
    assert said in precept("run", "compare", *two).out and "told apart" not in precept("run", "compare", *two).out
    assert precept("run", "compare", two[0], two[0], "--json").json["paired"] is None


def test_a_run_beside_itself_differs_in_nothing(two, precept) -> None:
    assert precept("run", "compare", two[0], two[0], "--json").json["settings"] == []
    assert "no setting differs" in precept("run", "compare", two[0], two[0]).out


def test_runs_without_a_result_are_compared_by_their_settings(store, labelled, two, precept) -> None:
    found = precept("run", "compare", labelled.run.id.hex(), two[0], "--json").json
    assert found["win_rate"]["a"] is None and found["a"]["outcome"] == "its process is gone"
    assert json.loads(labelled.run.key)["slot"] == ""
    assert {"name": "slot", "a": "", "b": "mon"} in found["settings"]
    assert precept("run", "compare", labelled.run.id.hex(), two[0]).code == 0


def test_the_run_to_go_on_with_is_the_one_that_stopped_last(two, store) -> None:
    assert queries.stopped_last(store) is None
    first, second = a_run(store, "a", {}, None), a_run(store, "b", {}, None)
    assert queries.stopped_last(store) == second
    store.finish_run(first.id, "stopped")
    assert queries.stopped_last(store).id == first.id  # type: ignore[union-attr]


def test_a_reason_that_is_cut_says_so() -> None:
    assert runs._short("x" * 80) == "x" * 80
    assert runs._short("x" * 81) == "x" * 77 + "..."
