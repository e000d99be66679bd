"""Chains read back: one request is stored once, so a critique may be another run's, under another name of its words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from constitution.errors import UserError
from flows import session
from pipeline.engines.engine import Completion, Generate, Refused
from pipeline.engines.scripted import ScriptedEngine
from service import settings as settings_module
from service.queries import chains
from service.work import stages
from service.work.work import Work

PRINCIPLES = """\
constitution: one
version: 1
principles:
  - {id: kind, title: Kind, critique: Find what is rude., revision: Be kind., comparison: Which is kinder?}
"""
SCRIPT = """\
rules:
  - {contains: Write only the new reply, texts: [Better so., "Mended, short.", As it is.]}
  - {match: "^Find", texts: [It is rude., It is fine.]}
  - {match: Reply A, choose: hash}
  - {texts: [Here is how., "No.", Ask me later.]}
"""
SETTINGS = """\
store = "sqlite:///{home}/a.db"
home = "{home}"
prompts = "{home}/prompts.jsonl"
constitution = "{home}/principles.yaml"
oracle = ""
revise.rounds = 2
[policy]
kind = "scripted"
model = "{home}/script.yaml"
[evaluator]
kind = "scripted"
model = "{home}/script.yaml"
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    rows = [{"prompt": f"Question {number}?", "split": "train"} for number in range(12)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "principles.yaml").write_text(PRINCIPLES)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "precept.toml").write_text(SETTINGS.format(home=tmp_path))
    yield tmp_path / "precept.toml"


def revise(work: Work) -> None:
    stages.respond(work, "answers", stages.start_model(work), split="train")
    stages.revise(work, "revisions", of="answers")


def test_a_principle_that_was_renamed_keeps_its_chains_under_its_new_name(settings: Path) -> None:
    with session.at_work("revise", str(settings), {}) as work:
        revise(work)
        before = chains.ended(work, "revisions", "answers")
        asked = work.budget.generated
    (settings.parent / "principles.yaml").write_text(PRINCIPLES.replace("id: kind", "id: warm"))
    with session.at_work("revise", str(settings), {}) as work:
        revise(work)
        assert work.budget.generated == 0 < asked  # its words are the same
        after = chains.ended(work, "revisions", "answers")
        assert {step.principle for chain in after for step in chain.steps} == {"warm"}
        judged = stages.judge_revisions(work, "revisions")  # and the judge is asked about it under its new name
        probed = chains.probed(work, work.wiring.judge(work.settings.judge), after)
    assert judged["candidates"] > 0 and set(probed) == {"warm"}
    assert [[s.id for s in c.steps] for c in after] == [[s.id for s in c.steps] for c in before]
    assert [c.current.text for c in after] == [c.current.text for c in before]


def test_a_small_model_answers_again_as_told_and_does_not_see_what_it_wrote(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    generate = ScriptedEngine.generate

    def noted(engine: ScriptedEngine, requests: Sequence[Generate]) -> Sequence[Completion | Refused]:
        asked.extend(" / ".join(m.content for m in request.chat.messages) for request in requests)
        return generate(engine, requests)

    monkeypatch.setattr(ScriptedEngine, "generate", noted)
    with session.at_work("revise", str(settings), {"revise": {"way": "answer", "critique": False}}) as work:
        revise(work)
        ended = chains.ended(work, "revisions", "answers")
    questions = sorted(f"Question {number}?" for number in range(12))
    assert sorted(asked[:12]) == questions
    for round in (asked[12:24], asked[24:]):
        assert sorted(round) == [f"{question}\n\nBe kind." for question in questions]
    assert {len(chain.steps) for chain in ended} == {2}


def test_answering_again_reads_no_critique(settings: Path) -> None:
    with pytest.raises(UserError, match="set critique = false"):
        settings_module.load(settings, {"revise": {"way": "answer"}})


def test_an_answer_that_another_stage_has_revised_is_a_chain_of_its_own(settings: Path) -> None:
    """As after a top-up: the same text was revised before, as an answer of another model."""
    with session.at_work("revise", str(settings), {}) as work:
        revise(work)
        first = chains.ended(work, "revisions", "answers")
    # Another model that says the same; the critic is the same, so critiques and revisions are the same requests.
    again = settings.parent / "other.yaml"
    again.write_text(SCRIPT + "  - {text: never said}\n")
    flags = {
        "policy.model": str(again),
        "critic.kind": "scripted",
        "critic.model": str(settings.parent / "script.yaml"),
    }
    flags |= {"judge.kind": "scripted", "judge.model": str(settings.parent / "script.yaml")}
    with session.at_work("revise", str(settings), flags) as work:
        revise(work)
        answers = work.generations("answers")
        assert [g.text for g in answers] == [c.original.text for c in first]
        assert {g.id for g in answers}.isdisjoint(c.original.id for c in first)
        found = chains.ended(work, "revisions", "answers")
    for chain, answer in zip(found, answers, strict=True):
        assert chain.original.id == answer.id == chain.steps[0].parent
        assert [step.parent for step in chain.kept[1:]] == [step.id for step in chain.kept[:-1]]
    assert [c.current.text for c in found] == [c.current.text for c in first]
