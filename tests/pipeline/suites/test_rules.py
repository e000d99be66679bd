"""The pass rate of each checked principle, before and after, and what the gate asks of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constitution.principles import JudgedBy, Principle, When
from constitution.records import Generation, Message, Prompt, make_id
from pipeline import suites
from pipeline.suites import Evidence

PROMPTS = [
    Prompt((Message("user", f"How do I bake {n}?"),), "heldout", tags=("harmless",) if n % 2 else ()) for n in range(40)
]
SHORT = Principle("short", "Be short", "C", "R", "Q?", judge=JudgedBy("rule", '{"max_words":3}'))
TAGGED = replace(SHORT, id="tagged", title="Be short there", when=When(tags=("harmless",)))
ASKED = replace(SHORT, id="asked", when=When(ask="Is it?"))
KIND = Principle("kind", "Be kind", "C", "R", "Q?")


def answers(side: str, long: int) -> list[Generation]:
    """So many are too long."""
    texts = ["Mix it and wait for long." if n < long else "Mix it." for n in range(len(PROMPTS))]
    return [
        Generation(make_id(side, n=n), "response", p.id, text, "stop", "e")
        for n, (p, text) in enumerate(zip(PROMPTS, texts, strict=True))
    ]


def evidence(before: int, after: int, *principles: Principle) -> Evidence:
    return Evidence(
        {p.id: p for p in PROMPTS}, answers("before", before), answers("after", after), principles=principles
    )


def test_a_figure_a_checked_principle_over_the_prompts_that_it_is_for() -> None:
    (found,) = suites.measure(["rules"], evidence(20, 10, KIND, SHORT, TAGGED, ASKED))
    short, tagged = found.figures
    assert [short.name, tagged.name] == ["short", "tagged"]
    assert (short.before.mean, short.after.mean, short.change.mean, short.n) == (0.5, 0.75, 0.25, 40)  # type: ignore[union-attr]
    assert (tagged.n, tagged.before.mean, tagged.better) == (20, 0.5, "higher")  # type: ignore[union-attr]
    assert short.change.low < 0.25 < short.change.high  # type: ignore[union-attr]


def test_there_is_nothing_where_no_principle_is_checked() -> None:
    found = suites.measure(["rules"], evidence(20, 10, KIND, ASKED))
    assert found[0].figures == () and suites.conditions(found) == []


@pytest.mark.parametrize(
    ("before", "after", "held", "said"),
    [
        (10, 12, True, "Be short: kept by code's count, fell by 5.0 points"),
        (10, 13, False, "fell by 7.5 points"),
        (10, 5, True, "rose by 12.5 points"),
    ],
)
def test_the_gate_asks_that_none_falls_by_more_than_is_allowed(before: int, after: int, held: bool, said: str) -> None:
    (condition,) = suites.conditions(suites.measure(["rules"], evidence(before, after, SHORT)))
    assert condition.held is held and said in condition.text
    assert ("more than the 5 allowed" in condition.text) is (not held)


def test_too_few_prompts_are_not_known_and_a_limit_of_all_asks_nothing() -> None:
    found = suites.measure(["rules"], evidence(10, 0, TAGGED))
    (condition,) = suites.conditions(found)
    assert not condition.held and "20 prompts are too few, 25 are needed" in condition.text
    assert suites.conditions(found, {"rules": {"prompts": 20}})[0].held
    assert suites.conditions(found, {"rules": {"falls": 1.0}}) == []
