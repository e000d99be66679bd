"""What a verdict says of an example, from verdicts made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution, Example, JudgedBy, Principle, When
from constitution.records import PROBABILITY, Comparison, LabelRule, Message, Verdict, dialogue_id, text_digest
from constitution.starting_points import starting_point
from pipeline.examples import ExampleCase, Outcome, advice, plan, reason, result, wanted, without_examples

ROOT = Path(__file__).parents[2]
ASKED = (Message("user", "Hello?"),)
RULE = LabelRule()  # min_mass 0.5, min_margin 0.5


def principle(id: str, *examples: Example) -> Principle:
    return Principle(id, "t", "c", "r", f"Which is {id}?", examples=examples)


KIND = principle("kind", Example(ASKED, "Hi!", "What?"), Example(ASKED, "Good day.", "Go."))
SHORT = principle("short", Example(ASKED, "Hi!", "What?"))
BARE = principle("bare")
TWO = Constitution("two", (KIND, SHORT, BARE))


def verdict(case: ExampleCase, shown_a: float, shown_b: float, mass1: float = 1.0, mass2: float = 1.0) -> Verdict:
    """What a judge would have stored that gives `better` these probabilities, shown as A and shown as B.

    A verdict speaks of the comparison's first answer. Where that is `worse`, `better` stood at B in the order that is
    stored first, so the two change places and are turned round.
    """
    p1, p2 = (shown_a, shown_b) if case.better_first else (1 - shown_b, 1 - shown_a)
    p1, p2, mass1, mass2 = (round(p * PROBABILITY) for p in (p1, p2, mass1, mass2))
    return Verdict(b"q" * 16, case.comparison.id, p1, p2, mass1, mass2)


@pytest.fixture(params=[True, False], ids=["better is first", "better is second"])
def case(request: pytest.FixtureRequest) -> ExampleCase:
    """An example whose `better` is the comparison's first answer, or its second: digests decide that."""
    (found,) = plan(Constitution("one", (SHORT,)))
    if found.better_first != request.param:
        found = replace(found, example=replace(found.example, better=found.example.worse, worse=found.example.better))
    assert found.better_first == request.param
    return found


def test_the_plan_has_a_case_an_example_in_the_order_of_the_file() -> None:
    cases = plan(TWO)
    assert [(c.principle.id, c.number) for c in cases] == [("kind", 1), ("kind", 2), ("short", 1)]
    first = cases[0].comparison
    assert first == Comparison.of(dialogue_id(ASKED), text_digest("Hi!"), text_digest("What?"))
    assert first == cases[2].comparison  # the same texts under another principle are the same pair
    assert [c.principle.id for c in plan(TWO, ["short"])] == ["short"]
    assert without_examples(TWO) == ["bare"]


def test_an_example_is_asked_about_under_its_own_principle_alone() -> None:
    questions = {"kind": b"k" * 16, "short": b"s" * 16, "bare": b"b" * 16}
    first, second, _ = plan(TWO)
    assert wanted(plan(TWO), questions) == {
        first.comparison.id: {questions["kind"], questions["short"]},
        second.comparison.id: {questions["kind"]},
    }


@pytest.mark.parametrize(
    ("constitution", "ids", "said"),
    [
        (TWO, ["kind", "kin"], "no principle 'kin'; there are kind, short, bare"),
        (TWO, ["bare"], "no example under bare"),
        (Constitution("none", (BARE,)), [], "(?s)in the constitution 'none'.*examples:\n.*prompt:.*better:.*worse:"),
        (
            Constitution("same", (principle("kind", Example(ASKED, "a", "b"), Example(ASKED, "a", "a")),)), [],
            "example 2 of kind: `better` and `worse` are the same text",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_said(constitution: Constitution, ids: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(constitution, ids)


@pytest.mark.parametrize(
    ("shown_a", "shown_b", "outcome"),
    [
        (0.9, 0.8, "passed"),
        (0.75, 0.75, "passed"),  # a margin of exactly 0.5
        (0.74, 0.75, "unsure"),  # 0.49: it would not vote
        (0.5, 0.5, "unsure"),
        (1.0, 0.5, "unsure"),  # one order names none, whatever the margin
        (0.1, 0.2, "wrong"),
        (0.4, 0.4, "wrong"),  # that it is not sure of it makes it no better
        (0.9, 0.1, "order"),  # names what is shown first
        (0.1, 0.9, "order"),
        (1.0, 0.49, "order"),
    ],
)
def test_outcomes(case: ExampleCase, shown_a: float, shown_b: float, outcome: Outcome) -> None:
    found = result(case, verdict(case, shown_a, shown_b), RULE)
    assert (found.outcome, found.passed) == (outcome, outcome == "passed")
    assert (found.shown_a, found.shown_b) == pytest.approx((shown_a, shown_b))
    assert found.margin == pytest.approx(shown_a + shown_b - 1)
    assert bool(advice(found)) != found.passed


@pytest.mark.parametrize("masses", [(0.49, 1.0), (1.0, 0.49)])
def test_one_unreadable_order_makes_it_unreadable(case: ExampleCase, masses: tuple[float, float]) -> None:
    found = result(case, verdict(case, 0.9, 0.9, *masses), RULE)
    assert (found.outcome, found.mass) == ("unreadable", 0.49)
    assert "0.490 of the probability, less than label.min_mass = 0.5" in reason(found, RULE)
    assert result(case, verdict(case, 0.9, 0.9, *masses), replace(RULE, min_mass=0.4)).passed


def test_the_rule_in_force_says_how_sure_is_sure(case: ExampleCase) -> None:
    said = verdict(case, 0.99, 0.99)
    assert result(case, said, replace(RULE, min_margin=0.98)).passed
    strict = replace(RULE, min_margin=0.99)
    found = result(case, said, strict)
    assert reason(found, strict) == "the margin 0.980 is under label.min_margin = 0.99: it would not vote"
    assert result(case, verdict(case, 0.51, 0.5000001), replace(RULE, min_margin=0.0)).passed


def test_the_reason_names_the_side_that_the_judge_clings_to(case: ExampleCase) -> None:
    assert "shown first" in reason(result(case, verdict(case, 0.9, 0.1), RULE), RULE)
    assert "shown last" in reason(result(case, verdict(case, 0.1, 0.9), RULE), RULE)


@pytest.mark.parametrize("text", [(ROOT / "principles.yaml").read_text(), starting_point("assistant")])
def test_every_principle_that_ships_has_an_example(text: str) -> None:
    constitution = loading.parse(text)
    assert without_examples(constitution) == []
    assert len(plan(constitution)) >= len(constitution)
    bare = Constitution(constitution.name, tuple(replace(p, examples=()) for p in constitution))
    assert bare.version == constitution.version


@pytest.mark.parametrize(
    ("judge", "p", "said", "mend", "never"),
    [
        (JudgedBy("rule", '{"max_words":3}'), 0.5, "code tells no difference", "graded: true", "min_margin"),
        (JudgedBy("rule", '{"max_words":3}'), 0.0, "keeps the checks", "Mend the checks of `judge`", "Reword"),
        (JudgedBy("contrast"), 0.2, "likelier where the principle is kept", "`keeps` and `breaks`", "orders"),
        (JudgedBy("contrast"), 0.6, "min_margin", "lower `scale`", "in both orders the judge"),
        (JudgedBy("reward", '{"reward":{"kind":"x"}}'), 0.1, "the higher reward", "another `judge`", "Reword"),
        (JudgedBy("rating"), 0.1, "rated higher", "Reword `comparison`", "keeps"),
        (None, 0.5, "it abstains", "name one thing", "code"),
    ],
)
def test_why_and_what_to_do_are_of_the_judge_that_was_asked(
    case: ExampleCase, judge: JudgedBy | None, p: float, said: str, mend: str, never: str
) -> None:
    asked = replace(case, principle=replace(case.principle, judge=judge))
    found = result(asked, verdict(asked, p, p), RULE)
    assert said in reason(found, RULE) and mend in advice(found)
    assert never not in reason(found, RULE) + advice(found)
    if judge is not None:  # the same where it is the whole role's
        plain = result(case, verdict(case, p, p), RULE)
        assert reason(plain, RULE, judge.method) == reason(found, RULE) and advice(plain, judge.method) == advice(found)


def test_one_that_abstains_by_its_condition_is_told_so(case: ExampleCase) -> None:
    asked = replace(case, principle=replace(case.principle, when=When(ask="Could it hurt?")))
    assert "`ask` of `when`" in advice(result(asked, verdict(asked, 0.5, 0.5), RULE))
    tagged = replace(case, principle=replace(case.principle, when=When(tags=("x",))))  # an example has every tag
    assert "`when`" not in advice(result(tagged, verdict(tagged, 0.5, 0.5), RULE))
