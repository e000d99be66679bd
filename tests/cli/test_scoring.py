"""`precept score` on the scripted engine: what a person reads of it, and what a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.store import Store

Precept = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SCRIPT = r"""rules:
  - {match: '(?s)\[Reply A\]\s(?P<a>.*)\[Reply B\]\s(?P<b>.*)\[Question\]\sWhich is kinder', prefer: please, p: 0.95}
  - {match: Reply A, choose: {A: 0.5, B: 0.5}}
  - {match: "Is it rude", text: "It is rude \e[31m[red]."}
  - {match: "Be kind", text: "please, \e[31m[red]"}
  - {text: "An answer.\nof two lines"}
"""
RUDE = "rude \x1b[31m[bold]\u202e answer"


@pytest.fixture
def played(labelled: Any, project: Path, store: Store) -> Any:
    """A finished run that was rewarded by length, of a model that gives one answer to everything."""
    (project / "script.yaml").write_text(SCRIPT.replace(r"\e", "\\x1B"))
    (project / "liking.py").write_text("def length(prompts, answers):\n    return [float(len(a)) for a in answers]\n")
    settings = json.loads(json.dumps(dict(labelled.run.settings)))
    settings["settings"]["optimise"]["reward"] = {"kind": "function", "name": "liking:length"}
    run = store.start_run("played", "improve", settings, labelled.run.constitution)
    store.add_members(run.id, "prompts", [p.id for p in labelled.prompts])
    store.finish_run(run.id, "finished", result={})
    return store.run(run.id)


def test_one_answer_on_the_screen(played: Any, precept: Precept) -> None:
    done = precept("score", "Question 3, then?", RUDE)
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    whose = f"answers of the model that run {played.id.hex()[:12]} started from"
    assert f"against 16 {whose}: 0 stored, 16 asked for now" in done.out
    assert "judged by the evaluator, under two" in done.out and "rewarded by function" in done.out
    assert "the judge's win rate 0.50 0.42 to 0.58 0 won, 16 tied, 0 lost" in lines
    assert next(line for line in lines if line.startswith("the reward's percentile 1.00")).endswith("reward +24.000")
    gap = next(line for line in lines if line.startswith("gap of the two"))
    assert gap.startswith("gap of the two +0.50 +0.") and gap.endswith("marked")
    assert "far more than the judge does: a mark of reward hacking" in done.out
    assert next(line for line in lines if line.startswith("kind 3 0 of 16 - -"))
    assert "the prompt was never answered" not in done.out  # nothing near it was, by this model
    assert "answers of the starting model: 16/16" in done.err and "missing" not in done.err


def test_texts_of_models_are_shown_and_not_obeyed(played: Any, precept: Precept) -> None:
    done = precept("score", "Question 3?", RUDE, "--run", played.id.hex()[:8])
    assert "\x1b" not in done.out and "\u202e" not in done.out and "\x1b" not in done.err
    assert "    rude <U+001B>[31m[bold]<U+202E> answer" in done.out
    again = precept("score", "Question 3?", "please", "rude \x1b[2J")
    assert "\x1b" not in again.out and "    rude <U+001B>[2J" in again.out


def test_a_revision_on_the_screen(played: Any, precept: Precept) -> None:
    script = Path("script.yaml")
    script.write_text(script.read_text().replace("An answer.", "An answer, please."))
    done = precept("score", "Question 3?", RUDE)
    assert "critique and revision (it does worst by kind)" in done.out
    assert "    It is rude <U+001B>[31m[red]." in done.out and "    please, <U+001B>[31m[red]" in done.out
    assert "the judge prefers the revision; the reward goes from +24.000 to +18.000" in done.out
    assert "kind 3 16 of 16 0 0.00 0.00 to 0.17 ············" in " ".join(done.out.split())
    without = precept("score", "Question 3?", RUDE, "--no-revision")
    assert without.code == 0 and "critique" not in without.out


def test_two_answers_on_the_screen(played: Any, precept: Precept) -> None:
    done = precept("score", "Question 3?", "rude answer", "please")
    assert done.code == 0, done.err
    assert "evaluator: the second is better; p of the first is 0.050" in done.out
    assert "reward: likes the first better, unlike the judge; +11.000 and +6.000, difference +5.000" in done.out
    row = next(line.split() for line in done.out.splitlines() if line.startswith("kind"))
    assert row == ["kind", "3", "0.050", "0.050", "second", "-0.450", "████████████|", "tied"]
    row = next(line.split() for line in done.out.splitlines() if line.startswith("short"))
    assert row[:3] == ["short", "1", "0.500"] and "abstains" in " ".join(row)
    turned = precept("score", "Question 3?", "please", "rude answer")
    assert "the first is better; p of the first is 0.950" in turned.out
    same = precept("score", "Question 3?", "please", "please you", "--quiet")
    assert "neither is better" in same.out and same.err == ""


def test_json_is_all_that_is_printed(played: Any, precept: Precept) -> None:
    one = precept("score", "Question 3?", RUDE, "--n", "3", "--json", "--quiet")
    assert (one.code, one.err) == (0, "")
    assert one.json["answer"] == RUDE and one.json["baseline"]["answers"] == len(one.json["others"]) == 3
    assert one.json["gap"]["marked"] is False and one.out.isascii()
    two = precept("score", "Question 3?", "rude", "please", "--json", "--quiet")
    assert (two.json["judged"]["outcome"], two.json["rewarded"]["difference"]) == ("second", -2)


def test_what_is_missing_is_told_beside_the_result(project: Path, precept: Precept) -> None:
    (project / "script.yaml").write_text(SCRIPT.replace(r"\e", "\\x1B"))
    done = precept("score", "Who are you?", "", "--n", "2")
    assert done.code == 0, done.err
    assert "    (empty)" in done.out and "answers of the policy: 0 stored, 2 asked for now" in done.out
    assert "missing: a finished run" in done.err and "missing: a revision: there is nothing" in done.err
    assert "reward" not in done.out
    told = precept("score", "Who are you?", "", "--json", "--quiet")
    assert told.err == "" and len(told.json["missing"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("", "x"), "the prompt is empty"),
        (("a", "x", "x"), "the same text"),
        (("a", "x", "--run", "ffff"), "there is no run"),
        (("a", "x", "--n", "0"), "greater than or equal to 1"),
        (("a",), "Missing argument 'ANSWER'"),
    ],
)
def test_mistakes_exit_with_2(project: Path, precept: Precept, arguments: tuple[str, ...], words: str) -> None:
    done = precept("score", *arguments)
    assert (done.code, done.out) == (2, "") and words in done.err


def test_a_judge_that_cannot_be_reached_exits_with_1(played: Any, precept: Precept) -> None:
    Path("broken.yaml").write_text("rules: [{fault: {error: 500}}]")
    done = precept("score", "a", "x", "--set", "evaluator.model=broken.yaml")
    assert done.code == 1 and "scripted fault 500" in done.err


def test_a_limit_exits_with_3(played: Any, precept: Precept) -> None:
    done = precept("score", "a", "x", "--set", "limits.max_calls=4")
    assert (done.code, done.out) == (3, "") and "limits.max_calls = 4" in done.err


def test_no_prefect_is_imported(played: Any) -> None:
    words = ["score", "Question 3?", "rude", "please"]
    code = f"import sys; from cli.main import run; print(run({words}), 'prefect' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
