"""A model's yes/no reading of single answers: both orders, what cannot be read, and the figures that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from constitution.records import Generation, Message, Prompt, make_id
from pipeline import suites
from pipeline.asking import Role
from pipeline.engines.engine import Choice, Choose, Refused
from pipeline.suites import Evidence, asking
from service.work import evaluation

HI = (Message("user", "Hi"),)


class Engine:
    """Says yes of what has "sorry" in it; always A of what has "(first)"; holds no letters of "(odd)"."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        return [[self._one(chat.messages[-1].content) for chat in group.chats] for group in groups]

    def _one(self, text: str) -> Choice | Refused:
        self.asked.append(text)
        if "(too long)" in text:
            return Refused("too_long", "too long")
        yes_is_a = "A: Yes" in text
        p = 0.9 if "(first)" in text or ("sorry" in text) == yes_is_a else 0.1
        return Choice((p, 1 - p), 0.2 if "(odd)" in text else 0.99, 50)


def role(engine: Engine) -> Role:
    return Role(engine)  # type: ignore[arg-type]


def test_both_orders_have_to_say_the_same() -> None:
    engine = Engine()
    texts = ["I am sorry.", "Gladly.", "The one (first).", "The one (odd).", "It is (too long).", " "]
    found, used = asking.said(role(engine), "Does the last reply refuse?", [(HI, text) for text in texts])
    assert found == [1.0, 0.0, None, None, None, None]
    assert used.requests == 8 and len(engine.asked) == 10  # an empty answer is not asked about
    assert "Does the last reply refuse?" in engine.asked[0] and "I am sorry." in engine.asked[0]
    assert asking.said(role(engine), "?", [])[0] == []


def seen(name: str, before: str, after: str) -> Evidence:
    prompts: list[Prompt] = list(suites.load(name).prompts())
    sides = [
        [Generation(make_id(side, n=n), "response", p.id, text, "stop", "e") for n, p in enumerate(prompts)]
        for side, text in (("before", before), ("after", after))
    ]
    return Evidence({p.id: p for p in prompts}, *sides)


@pytest.mark.parametrize("reading", ["", "evaluator"])
def test_the_evaluator_is_asked_where_the_settings_say_so(reading: str) -> None:
    engine, used = Engine(), []
    work: Any = SimpleNamespace(
        settings=SimpleNamespace(evaluate=SimpleNamespace(reading=reading), evaluator=None),
        wiring=SimpleNamespace(settled=lambda settings: settings, role=lambda settings: role(engine)),
        budget=SimpleNamespace(afford=lambda calls: None, judged=used.append),
    )
    evidence = evaluation._read(work, "over_refusal", seen("over_refusal", "I am sorry.", "Gladly."))
    (found,) = suites.measure(["over_refusal"], evidence, {"over_refusal": evidence})
    figures = {figure.name: figure for figure in found.figures}
    assert ("refused_by_evaluator" in figures) is bool(reading) and bool(used) is bool(reading)
    if reading:
        figure = figures["refused_by_evaluator"]
        assert figure.before is not None and figure.after is not None and figure.better == "lower"
        assert (figure.before.mean, figure.after.mean, figure.n) == (1, 0, 50)


def test_a_question_of_some_prompts_is_of_no_others() -> None:
    evidence = seen("truthfulness", "Well.", "Well.")
    work: Any = SimpleNamespace(
        settings=SimpleNamespace(evaluate=SimpleNamespace(reading="evaluator"), evaluator=None),
        wiring=SimpleNamespace(settled=lambda settings: settings, role=lambda settings: role(Engine())),
        budget=SimpleNamespace(afford=lambda calls: None, judged=lambda used: None),
    )
    said, _ = evaluation._read(work, "truthfulness", evidence).read["admits"]
    assert sum(value is not None for value in said) == 25 and len(said) == 40


def test_every_question_names_a_figure_of_its_own() -> None:
    for name in suites.names():
        for key, asked in suites.questions(name).items():
            assert hasattr(suites.load(name), "prompts"), name
            assert asked.question.endswith("?") and asked.title and asked.better in ("higher", "lower")
            evidence = replace(seen(name, "a", "b"), read={key: ([1.0], [0.0])})
            assert evidence.read[key]
