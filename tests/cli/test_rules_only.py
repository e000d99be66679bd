"""A constitution that code decides alone: no judge model is wanted anywhere, no evaluator has to be named, and each
command says so."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from constitution.errors import UserError
from service import preflight
from service import settings as settings_module
from service.wiring import Wiring

RULES = """\
constitution: rules
version: 1
principles:
  - id: brief
    title: Brief
    critique: Long?
    revision: Shorten.
    comparison: Which reply is short?
    judge: {method: rule, max_words: 3}
    examples: [{prompt: Hi, better: Come in., worse: Come in and stay for a while.}]
"""
SETTINGS = 'prompts = "prompts.jsonl"\noracle = ""\n[policy]\nkind = "scripted"\nmodel = "script.yaml"\n'


@pytest.fixture
def rules(project: Path) -> Path:
    (project / "precept.toml").write_text(SETTINGS)  # and no evaluator
    (project / "principles.yaml").write_text(RULES)
    return project


def test_every_command_knows_that_nobody_is_asked(rules, precept) -> None:
    health = precept("doctor", "--json")
    assert health.code == 0, [f for f in health.json["findings"] if not f["ok"] and f["needed"]]
    assert all("code decides every principle" in f["found"] for f in health.json["findings"] if "trial" in f["what"])
    plan = precept("improve", "--dry-run", "--json").json
    calls = {stage["name"]: stage["calls"] for stage in plan["stages"]}
    assert "trial of the judge" not in calls and calls["verdicts on samples"] == calls["verdicts on evaluation"] == 0
    assert all("code decides every principle" in said for said in plan["trials"].values())
    for who in ((), ("--evaluator",)):
        tried = precept("judge", "trial", "--json", "--quiet", *who)
        assert tried.code == 0 and "code decides every principle" in tried.json["says"][0], tried.err
    tested = precept("constitution", "test", "--quiet", "--json")
    assert (tested.code, tested.json["passed"]) == (0, 1)


def test_a_dry_run_knows_that_an_evaluator_without_a_model_is_not_tried(rules, precept) -> None:
    asked = "  - {id: kind, title: Kind, critique: Rude?, revision: Be kind., comparison: Which reply is kinder?}\n"
    (rules / "principles.yaml").write_text(RULES + asked)
    judge = ["--set", "judge.kind=scripted", "--set", "judge.model=script.yaml"]
    given = ["--dry-run", "--no-sample", "--json", *judge, "--set", "evaluator.kind=scripted"]
    plan = precept("improve", *given, "--set", "trial.required=checks").json
    assert "`precept judge trial` tells now" in plan["trials"]["judge"]
    assert "what code checks is measured" in plan["trials"]["evaluator"]
    other = precept("improve", *given, "--set", "evaluator.model=script.yaml").json
    assert "`precept judge trial --evaluator` tells now" in other["trials"]["evaluator"]


def test_a_run_wants_no_evaluator_and_one_model_may_stand_for_both(rules) -> None:
    def wiring(**flags: object) -> Wiring:
        return Wiring(settings_module.load(None, flags)[0])

    with closing(wiring()) as wired:
        preflight.check("improve", wired)
        assert wired.code_decides and wired.code_measures
        question = wired.judge(wired.settings.evaluator).question(wired.constitution["brief"])
        assert question == wired.judge(wired.settings.judge).question(wired.constitution["brief"])
    with closing(wiring(**{"evaluator.kind": "scripted", "evaluator.model": "script.yaml"})) as wired:
        wired.refuse_one_model_twice()  # neither is asked anything
        assert not wired.code_measures
    with (
        closing(wiring(**{"evaluate.reading": "evaluator"})) as wired,
        pytest.raises(UserError, match=r"evaluate\.reading"),
    ):
        preflight.check("improve", wired)


@pytest.mark.parametrize("more", ["when: {ask: Could it hurt?}", "judge: reasoned"])
def test_one_principle_that_a_model_is_asked_about_wants_an_evaluator(rules, more: str) -> None:
    other = RULES.replace("    judge: {method: rule, max_words: 3}\n", "") if "judge" in more else RULES
    (rules / "principles.yaml").write_text(f"{other}    {more}\n")
    with closing(Wiring(settings_module.load()[0])) as wired:
        assert not wired.code_decides
        with pytest.raises(UserError, match="evaluator"):
            preflight.check("improve", wired)


def test_what_code_checks_anew_is_priced_at_nothing(rules, precept) -> None:
    rows = [{"prompt": f"Hi {n}", "a": "Come in.", "b": "Come in and stay for a while."} for n in range(4)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert precept("judge", "pairs", "pairs.jsonl", "--quiet").code == 0
    Path("draft.yaml").write_text(RULES.replace("max_words: 3", "max_words: 2"))
    found = precept("constitution", "amend", "draft.yaml", "--json").json
    assert found["missing"] == {"brief": 4} and (found["cost"]["verdicts"], found["cost"]["tokens"]) == (0, 0)
    compared = precept("constitution", "compare", "principles.yaml", "draft.yaml", "--json").json
    assert compared["labels"]["open"] == 4
    assert (compared["price"]["verdicts"], compared["price"]["tokens"]) == (0, 0)
