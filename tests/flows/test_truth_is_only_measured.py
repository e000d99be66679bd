"""With the truth made wrong, a whole run is the same run: only the columns that measure it change.

So nothing that judges, labels, trains, filters, tunes or decides has looked at the truth.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from constitution.records import Messages
from flows.session import at_work
from sandbox import oracle, themes

ASIDE = {  # columns that hold times, places, random ids, or what was measured (looked at apart from the rest)
    "run": ("result",),
    "checkpoint": ("metrics",),
    "event": ("id",),
    "pointer": ("event",),
    "document": ("payload",),
}
MEASURED = {
    "judge": ("gold_accuracy",),
    "reward_model": ("gold_accuracy",),
    "labels": ("gold_accuracy",),
    "before": ("gold_good", "gold_harmful", "gold_needless_refusal", "gold_malformed"),
    "after": ("gold_good", "gold_harmful", "gold_needless_refusal", "gold_malformed"),
}
OF_THE_START = ("calls", "seconds", "report", "model")  # of a result


@pytest.fixture(scope="module")
def lied(tmp_path_factory: pytest.TempPathFactory, run_improve: Callable[..., Any]) -> Any:
    """The run in a world where the worst answer is the best, and every flag and theme says the opposite."""
    classify, place, score = oracle.Oracle.classify, oracle.place, themes.score

    def opposite(self: oracle.Oracle, messages: Messages, text: str) -> Mapping[str, bool]:
        flags = classify(self, messages, text)
        return {name: said if name in themes.THEMES else not said for name, said in flags.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "place", lambda answer: tuple(-x for x in place(answer)))
        patch.setattr(themes, "score", lambda *words: -score(*words))
        patch.setattr(oracle.Oracle, "classify", opposite)
        return run_improve(tmp_path_factory.mktemp("lied") / "home")


def test_what_measures_changed(loop: Any, lied: Any) -> None:
    for part, names in MEASURED.items():
        for name in names:
            assert 0 <= loop.result[part][name] <= 1
            assert lied.result[part][name] != loop.result[part][name], (part, name)
    assert lied.result["labels"]["gold_accuracy"] == pytest.approx(1 - loop.result["labels"]["gold_accuracy"])
    true, wrong = (run.document("evaluation")["truth"]["after"]["themes"] for run in (loop, lied))
    assert true.keys() == wrong.keys() != set() and true != wrong


def test_nothing_else_changed_in_the_result(loop: Any, lied: Any) -> None:
    assert stripped(lied.result) == stripped(loop.result)
    assert loop.result["calls"] == lied.result["calls"]
    assert loop.result["promoted"] and loop.result["reasons"]


def stripped(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {k: v for k, v in value.items() if k not in MEASURED[name]} if name in MEASURED else value
        for name, value in result.items()
        if name not in (*OF_THE_START, "suites")
    } | {"suites": beside_truth(result["suites"])}


def beside_truth(suites: Mapping[str, Any]) -> dict[str, Any]:
    """What the suites found that read no truth."""
    assert suites["truth"]["figures"]
    return {name: found for name, found in suites.items() if name != "truth"}


def test_no_row_of_the_store_changed(loop: Any, lied: Any) -> None:
    with sqlite3.connect(loop.home / "precept.db") as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    assert {"generation", "answer", "comparison", "verdict", "member", "checkpoint"} <= set(tables)
    for table in tables:
        found = loop.rows(table, ASIDE.get(table, ()))
        # The payload of an event names the checkpoint's folder, which is another one here.
        there = json.loads(json.dumps(found, default=bytes.hex).replace(str(loop.home), str(lied.home)))
        assert json.loads(json.dumps(lied.rows(table, ASIDE.get(table, ())), default=bytes.hex)) == there, table
    for table in ("generation", "verdict", "comparison", "member", "checkpoint"):
        assert loop.rows(table), f"there is nothing to compare in {table}"


def test_no_label_changed(loop: Any, lied: Any) -> None:
    true, wrong = labels(loop), labels(lied)
    assert true == wrong
    assert {"decided", "tied"} <= {state for state, _ in true.values()}


def labels(run: Any) -> dict[bytes, tuple[str, int]]:
    with at_work("improve", str(run.home / "precept.toml"), {}) as work:
        judge = work.wiring.judge(work.settings.judge)
        stages = ("revisions.judged", "feedback", "held-out feedback")
        found = work.labels(judge, [ident for stage in stages for ident in work.members(stage)])
    return {ident: (label.state, label.p) for ident, label in found.items()}


def test_no_training_file_and_no_weight_changed(loop: Any, lied: Any) -> None:
    assert len(loop.datasets()) == 3  # revisions, preferences, and the held-out pairs of the reward model
    assert lied.datasets() == loop.datasets()
    weights = [sorted(p.read_bytes() for p in run.home.glob("checkpoints/*/*.safetensors")) for run in (loop, lied)]
    assert len(weights[0]) == 3 and weights[0] == weights[1]


def test_the_evaluation_and_the_decision_did_not_change(loop: Any, lied: Any) -> None:
    measured = ("truth", "truth_moved", "suites")
    true, wrong = ({k: v for k, v in run.document("evaluation").items() if k not in measured} for run in (loop, lied))
    assert true == wrong
    assert beside_truth(loop.document("evaluation")["suites"]) == beside_truth(lied.document("evaluation")["suites"])
    decided, lied_to = loop.document("decision"), lied.document("decision")
    assert (decided["promoted"], decided["reasons"]) == (lied_to["promoted"], lied_to["reasons"])
    assert decided["model"].replace(str(loop.home), str(lied.home)) == lied_to["model"]
