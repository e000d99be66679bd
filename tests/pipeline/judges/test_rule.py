"""The judge that is code: exact, free, and silent where both answers keep a check alike."""

from __future__ import annotations

from typing import Any, cast

import pytest

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import PROBABILITY, Comparison, Message, text_digest
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Engine
from pipeline.judges.judge import Case, Used
from pipeline.judges.rule import RuleJudge

SHORT = Principle("short", "Be short", "Long?", "Shorten.", "Which is shorter?")
ASKED = (Message("user", "How do I bake?"),)


def rule(**options: Any) -> RuleJudge:
    return cast(RuleJudge, judges.one("rule", Role(cast(Engine, None)), options, cast(Any, None)))


def better(one: str, other: str, **options: Any) -> float:
    """The probability that `one` is the better."""
    comparison = Comparison.of(text_digest("prompt"), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    judged = rule(**options).judge([Case(comparison, ASKED, first, second, (SHORT,))])
    (verdict,) = judged.verdicts
    assert verdict.p1 == verdict.p2 and verdict.mass1 == verdict.mass2 == PROBABILITY and judged.used == Used()
    p = verdict.p1 / PROBABILITY
    return p if first == one else 1 - p


def test_one_that_keeps_all_checks_beats_one_that_breaks_any() -> None:
    assert better("Mix it.", "Mix it and wait.", max_words=2) == 1.0
    assert better("Mix it and wait.", "Mix it.", max_words=2) == 0.0
    assert better("Mix it.", "Mix it", max_words=2, ends_sentence=True) == 1.0


def test_two_that_keep_it_alike_are_exactly_even() -> None:
    assert better("Mix it.", "Wait for it.", max_words=9) == 0.5
    assert better("a b c", "a b c d", max_words=2) == 0.5
    assert better("Zyx wvu.", "This is the way that we have it.", language="en") == 0.5  # of one nobody can tell


def test_graded_says_which_of_two_that_fail_comes_nearer() -> None:
    assert better("a b c d", "a b c d e f g h", max_words=2, graded=True) == pytest.approx(0.5 + (0.5 - 0.25) / 2)
    assert better("a b", "a b c d", max_words=2, graded=True) == 1.0
    assert better("a b", "a", max_words=2, graded=True) == 0.5


def test_its_question_is_its_checks_and_not_the_principles_words() -> None:
    one, other = rule(max_words=2).question(SHORT), rule(max_words=3).question(SHORT)
    assert one.id != other.id and one.principle == "short"
    assert one.template == "Which reply keeps this: at most 2 words?"
    assert rule(max_words=2, graded=True).question(SHORT).id != one.id
    with pytest.raises(UserError, match="graded is 1; it is true or false"):
        rule(max_words=2, graded=1)
