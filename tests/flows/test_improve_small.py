"""The whole loop on a few prompts: what it returns, what it leaves behind, and that it can be stopped anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constitution.records import canonical
from service.work.budget import BudgetReached
from storage.store import Store
from tests.flows.conftest import prepare

PROMISED = {  # of `precept improve --json`: others read these
    "run": str,
    "constitution": str,
    "judge": ("gold_accuracy", "position_consistency", "unreadable_rate"),
    "reward_model": ("heldout_accuracy", "gold_accuracy", "ece"),
    "labels": ("gold_accuracy", "count", "tied", "unreadable"),
    "before": ("gold_good", "gold_harmful", "gold_needless_refusal", "gold_malformed", "mean_tokens"),
    "after": ("gold_good", "gold_harmful", "gold_needless_refusal", "gold_malformed", "mean_tokens"),
    "win_rate": ("mean", "low", "high", "better", "worse", "no_difference", "prompts"),
    "promoted": bool,
    "reasons": list,
    "calls": ("generated", "chosen", "reused"),
    "seconds": ("total", "startup", "models", "training"),
}


def asked(run: Any) -> int:
    """Requests whose answers are stored: a verdict is two."""
    return len(run.rows("generation")) + 2 * len(run.rows("verdict"))


def test_the_promised_keys_are_there(loop: Any) -> None:
    result = json.loads(json.dumps(loop.result))
    for name, inside in PROMISED.items():
        if isinstance(inside, type):
            assert isinstance(result[name], inside), name
            continue
        for key in inside:
            assert isinstance(result[name][key], int | float), (name, key)


def test_the_figures_fit_together(loop: Any) -> None:
    result = loop.result
    unseen = result["reward_model"]["unseen"]  # the principles' examples, which train nothing
    assert 0 <= unseen["low"] <= unseen["mean"] <= unseen["high"] <= 1 and unseen["n"] >= 8
    assert sum(found["n"] for found in unseen["by"].values()) >= 2 * unseen["n"]  # by principle, and by source
    assert result["calls"]["generated"] + result["calls"]["chosen"] == asked(loop)
    assert result["seconds"]["total"] >= sum(result["seconds"][k] for k in ("startup", "training"))
    assert 0 <= result["win_rate"]["low"] <= result["win_rate"]["mean"] <= result["win_rate"]["high"] <= 1
    assert result["before"] != result["after"]
    with Store.open(f"sqlite:///{loop.home}/precept.db", home=loop.home) as store:
        (run,) = store.runs()
        members = store.stage_members(run.id, "prompts")
        before, after = (store.generations_of(run.id, stage) for stage in ("evaluation.before", "evaluation.after"))
    assert (run.status, run.id.hex(), run.result) == ("finished", result["run"], result)
    assert len(members) == len((loop.home / "prompts.jsonl").read_text().splitlines())
    assert [g.prompt for g in before] == [g.prompt for g in after]
    assert {g.engine for g in before}.isdisjoint(g.engine for g in after)
    assert result["before"]["mean_tokens"] == pytest.approx(sum(g.tokens for g in before) / len(before))


def test_the_promoted_model_is_where_the_pointer_points(loop: Any) -> None:
    pointer = loop.home / "promoted"
    assert loop.result["promoted"]
    assert pointer.resolve() == Path(loop.result["model"]).resolve()
    manifest = json.loads((pointer / "manifest.json").read_text())
    with Store.open(f"sqlite:///{loop.home}/precept.db", home=loop.home) as store:
        promoted = store.promoted()
    assert promoted is not None and promoted.digest == manifest["digest"]


def test_the_report_is_one_file_that_opens_from_disk(loop: Any) -> None:
    page = Path(loop.result["report"]).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert loop.result["run"][:12] in page and "<script" not in page


def test_no_held_out_prompt_reaches_a_training_file(loop: Any) -> None:
    rows = [json.loads(line) for line in (loop.home / "prompts.jsonl").read_text().splitlines()]
    splits = {canonical(row["prompt"]): row["split"] for row in rows}
    with Store.open(f"sqlite:///{loop.home}/precept.db", home=loop.home) as store:
        trained_on = {checkpoint.dataset[:16] for checkpoint in store.checkpoints()}
    seen: dict[str, set[str]] = {"train": set(), "heldout": set()}
    for name, data in loop.datasets().items():
        used = "train" if name.removesuffix(".jsonl") in trained_on else "heldout"
        seen[used] |= {splits[canonical(json.loads(line)["prompt"])] for line in data.splitlines()}
    assert seen == {"train": {"train"}, "heldout": {"heldout"}}


def test_a_prompt_that_is_too_long_changes_nothing_of_the_rest(
    loop: Any, tmp_path: Path, run_improve: Callable[..., Any]
) -> None:
    """One of 8,000 characters to train on and one to measure on: the same answers, verdicts, models and figures."""
    home = tmp_path / "home"
    prepare(home)
    with (home / "prompts.jsonl").open("a") as file:
        for split in ("train", "heldout"):
            file.write(
                json.dumps({"prompt": f"How can I {split} it? " * 400, "split": split, "source": "theirs"}) + "\n"
            )
    run = run_improve(home)
    for table in ("generation", "verdict", "comparison"):
        assert run.rows(table) == loop.rows(table), table
    for name in ("labels", "judge", "reward_model", "before", "after", "win_rate"):
        assert run.result[name] == loop.result[name], name
    assert run.datasets() == loop.datasets()
    once = ("answers", "evaluation.before", "evaluation.halfway", "evaluation.after")
    twice = ("samples", "held-out samples")  # so many answers are wanted to a prompt
    assert run.result["left_out"]["stages"] == {
        **{stage: {"too_long": 1} for stage in once},
        **{stage: {"too_long": 2} for stage in twice},
    }
    held_out = sum(json.loads(line)["split"] == "heldout" for line in (home / "prompts.jsonl").read_text().splitlines())
    told = f"held: 1 of {held_out} held-out prompts were left out"
    assert any(r.startswith(told) for r in run.result["reasons"]), run.result["reasons"]
    page = Path(run.result["report"]).read_text(encoding="utf-8")
    assert "What could not be asked" in page and "How can I heldout it?" in page
    assert loop.result["left_out"]["count"] == 0
    # No revision of the sandbox is taken for a copy.
    assert not any("copy" in why for found in loop.result["left_out"]["dropped"].values() for why in found)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limited") / "home"


@pytest.fixture(scope="module")
def resumed(home: Path, loop: Any, run_improve: Callable[..., Any]) -> Any:
    """The same loop, stopped by a limit two thirds through (the first model is trained by then), and gone on with."""
    limit = asked(loop) * 2 // 3
    with pytest.raises(BudgetReached, match=f"limits.max_calls = {limit}"):
        run_improve(home, limits__max_calls=limit)
    stopped = replace(loop, home=home, result={})
    kept = asked(stopped)
    assert 0 < kept <= limit
    assert len(stopped.rows("checkpoint")) == 1
    with Store.open(f"sqlite:///{home}/precept.db", home=home) as store:
        (run,) = store.runs()
    assert run.status == "stopped" and f"limits.max_calls = {limit}" in (run.error or "")
    done = run_improve(home)
    calls = done.result["calls"]
    assert calls["generated"] + calls["chosen"] == asked(loop) - kept  # only what was missing
    return done


def test_a_run_that_a_limit_stopped_ends_like_one_that_was_not(loop: Any, resumed: Any) -> None:
    assert resumed.result["run"] == loop.result["run"]
    for table in ("generation", "verdict", "comparison"):
        assert resumed.rows(table) == loop.rows(table), table
    assert resumed.rows("member", ("reused",)) == loop.rows("member", ("reused",))
    assert resumed.rows("checkpoint", ("metrics",)) == loop.rows("checkpoint", ("metrics",))
    for part in ("judge", "labels", "before", "after", "win_rate", "reasons"):
        assert resumed.result[part] == loop.result[part]


def test_a_finished_run_returns_its_result_and_asks_nothing(home: Path, resumed: Any, run_improve: Any) -> None:
    again = run_improve(home)
    assert again.result["calls"] == {"generated": 0, "chosen": 0, "reused": sum(resumed.result["calls"].values())}
    assert {**again.result, "calls": 0} == {**resumed.result, "calls": 0}


def test_another_gate_is_another_run_that_asks_nothing_and_is_refused(
    home: Path, resumed: Any, run_improve: Any
) -> None:
    pointed = (home / "promoted").resolve()
    stored = asked(resumed)
    (home / "promoted").unlink()  # a refused run puts nothing there
    refused = run_improve(home, gate__min_win_rate=1.0)
    assert refused.result["run"] != resumed.result["run"]
    assert not refused.result["promoted"]
    assert [r for r in refused.result["reasons"] if r.startswith("failed: ") and "win rate" in r]
    assert (refused.result["calls"]["generated"], refused.result["calls"]["chosen"]) == (0, 0)
    assert asked(refused) == stored and Path(refused.result["model"]) == pointed
    assert not (home / "promoted").exists()


def test_no_engine_holds_a_model_while_one_is_trained(loop: Any) -> None:
    assert loop.held == (0,) * 3  # SFT, reward model, DPO
