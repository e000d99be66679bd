"""Whether a judge reads a wording: judges that are known to, or not to, and how often one is wrongly blamed."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.trust import score
from pipeline.metrics.twins import Asked, figures, findings, shown


def _judge(rng: np.random.Generator, n: int, question: float, twin: float, reads: bool = True) -> list[Asked]:
    """`question`, `twin`: how often it is right on each; one that does not read names the same reply again."""
    right = rng.random(n) < question
    other = rng.random(n) < twin
    return [
        Asked(str(i), 0.9 if right[i] else 0.1, (0.1 if other[i] else 0.9) if reads else (0.9 if right[i] else 0.1))
        for i in range(n)
    ]


def test_judges_of_each_kind_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    kinds = {
        "read": _judge(rng, 60, 0.9, 0.9),
        "not read": _judge(rng, 60, 0.8, 0.5, reads=False),
        "inverted": _judge(rng, 60, 0.1, 0.9),
        "too few to say": _judge(rng, 4, 1.0, 1.0),
    }
    for said, asked in kinds.items():
        assert figures("p", "q", "t", asked).said == said
    noisy = _judge(rng, 200, 0.25, 0.5)
    assert figures("p", "q", "t", noisy).said == "inverted"


def test_a_judge_that_guesses_is_blamed_in_few_lints() -> None:
    """Ten principles, twenty examples each, answers at random: some finding in at most 2 x 2.5% of lints."""
    rng = np.random.default_rng(1)
    lints = 300
    blamed = 0
    for _ in range(lints):
        found = [figures("p", "q", "t", _judge(rng, 20, 0.5, 0.5), of=10) for _ in range(10)]
        blamed += any(one.said in ("not read", "inverted") for one in found)
    assert blamed / lints <= 0.05 + 2 * (0.05 * 0.95 / lints) ** 0.5


@pytest.mark.parametrize(("n", "power"), [(30, 0.9), (12, 0.4)])
def test_power_against_a_judge_that_does_not_read(n: int, power: float) -> None:
    rng = np.random.default_rng(2)
    told = [figures("p", "q", "t", _judge(rng, n, 0.6, 0.6, reads=False), of=5).said for _ in range(100)]
    assert told.count("not read") / 100 >= power


def test_what_cannot_be_read_is_left_out_and_ties_count_for_no_side() -> None:
    asked = [Asked("a", None, 0.2), Asked("b", 0.9, 0.2), Asked("c", 0.5, 0.5)]
    found = figures("p", "q", "t", asked)
    assert (found.left_out, found.question.prompts, found.question.right, found.same.of) == (1, 2, 1, 1)
    assert "1 tied" in shown(found.question)
    low, high = score([1.0] * 5).interval
    assert 0 < low < high == 1


def test_findings_say_what_to_do() -> None:
    rng = np.random.default_rng(3)
    bad = figures("kind", "Which is kinder?", "Which is less kind?", _judge(rng, 40, 0.5, 0.5, reads=False))
    few = figures("few", "q", "t", _judge(rng, 3, 1.0, 1.0))
    kinds = {f.kind: f for f in findings([bad, few], {"odd": "Is it?"}, ["none"])}
    assert kinds["wording not read"].severity == "warning" and "another `judge`" in kinds["wording not read"].advice
    assert "`kind` on 40 of 40" in kinds["wording not read"].sentence
    assert kinds["no twin"].severity == "unknown" and "`twin`" in kinds["no twin"].advice
    assert {f.principles for f in findings([bad, few], {}, ["none"]) if f.kind == "not enough examples"} == {
        ("few",), ("none",),
    }  # fmt: skip
