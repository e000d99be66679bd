"""An answer against a baseline, and two answers against each other, worked out by hand."""

from __future__ import annotations

from math import isnan, nan

import pytest

from constitution.records import Comparison, Id, LabelRule, Verdict, text_digest
from pipeline.metrics import baseline, opinion, voting
from pipeline.metrics.baseline import PrincipleRate
from pipeline.metrics.voting import Votes

PROMPT = text_digest("prompt")
YES, NO, SILENT, LOST = (1.0, 1.0), (0.0, 0.0), (0.5, 0.5), None
QUESTIONS = {name: text_digest(name) for name in ("kind", "short", "old")}
WEIGHTS = {"kind": 3000, "short": 1000, "old": 1000}
RULE = LabelRule()


def comparison(one: str, other: str) -> tuple[Id, bool]:
    made = Comparison.of(PROMPT, text_digest(one), text_digest(other))
    return made.id, made.first == text_digest(one)


def verdicts(pair: tuple[Id, bool], said: tuple[tuple[float, float] | None, ...]) -> list[Verdict]:
    """`said`: by principle the probability that the first text named is the better, shown as A and shown as B."""
    made = []
    for question, of in zip(QUESTIONS.values(), said, strict=True):
        a, b = of or (0.5, 0.5)
        p1, p2 = (a, b) if pair[1] else (1 - b, 1 - a)
        mass = 0 if of is None else 10**9
        made.append(Verdict(question, pair[0], round(p1 * 10**9), round(p2 * 10**9), mass, mass))
    return made


def votes(made: list[Verdict]) -> Votes:
    return voting.votes(voting.evidence(made), QUESTIONS, WEIGHTS, RULE)


# --- what the judge says -------------------------------------------------------------------------------------------


def test_against_a_baseline_is_the_label_of_each_pair() -> None:
    """Label rule: p = 1/2 + sum(w s) / (2 sum(w)) over what votes; weights 3, 1, 1."""
    said = {
        "one": (YES, YES, YES),  # won
        "two": (NO, YES, SILENT),  # lost: p 1/4
        "three": (SILENT, SILENT, SILENT),  # tied
        "four": (LOST, YES, YES),  # 2/5 of the weight can be read: unreadable
        "five": ((0.9, 0.2), YES, NO),  # the orders disagree on kind; 1 against 1: tied
        "six": (YES, LOST, NO),  # won: p 3/4
    }
    pairs = {text: comparison("mine", text) for text in said}
    assert {first for _, first in pairs.values()} == {True, False}  # both ways round
    made = [v for text, of in said.items() for v in verdicts(pairs[text], of)]
    # the second text twice, and once the very answer that is scored
    found = baseline.against(votes(made), [*pairs.values(), pairs["two"], None])
    assert [str(value) for value in found.values] == [str(x) for x in (1.0, 0.0, 0.5, nan, 0.5, 1.0, 0.0, 0.5)]
    assert (found.count(1), found.count(0.5), found.count(0), found.unreadable) == (2, 3, 2, 1)
    assert found.win_rate is not None and found.win_rate.mean == pytest.approx(3.5 / 7)
    assert {r.principle: (r.bears, r.wins) for r in found.principles} == {
        "kind": (4, 2), "short": (5, 5), "old": (4, 2),
    }  # fmt: skip
    kind, short, old = found.principles
    assert kind.win_rate is not None and kind.win_rate.mean == 0.5
    assert short.win_rate is not None and short.win_rate.mean == 1 and short.win_rate.low < 0.6
    assert old.as_dict()["weight"] == 1.0


def test_a_baseline_of_the_same_text_alone_is_a_tie() -> None:
    found = baseline.against(votes([]), [None, None])
    assert found.values == (0.5, 0.5) and found.win_rate is not None and found.win_rate.mean == 0.5
    assert [r.win_rate for r in found.principles] == [None, None, None]


def test_what_cannot_be_read_has_no_win_rate() -> None:
    pair = comparison("mine", "one")
    found = baseline.against(votes(verdicts(pair, (LOST, LOST, LOST))), [pair])
    assert found.win_rate is None and isnan(found.values[0]) and found.unreadable == 1


def test_the_worst_principle_is_where_most_weight_is_lost() -> None:
    def rate(name: str, weight: int, bears: int, wins: int) -> PrincipleRate:
        return PrincipleRate(name, weight, bears, wins, None)

    heavy, often, won, mute = rate("h", 3000, 4, 1), rate("o", 1000, 9, 2), rate("w", 5000, 9, 9), rate("m", 0, 9, 0)
    assert baseline.worst([won, often, heavy, mute]) == "h"  # 3 x 2 of weight against 1 x 5
    assert baseline.worst([won, often]) == "o"
    assert baseline.worst([won, mute]) is None and baseline.worst([]) is None
    assert baseline.worst([rate("a", 1, 2, 0), rate("b", 1, 2, 0)]) == "a"  # the file's order


# --- two answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("b", "a"), ("x", "yy"), ("yy", "x")])
def test_an_opinion_is_told_from_the_first_answer_s_side(one: str, other: str) -> None:
    """p = 1/2 + (3 x 0.8 - 1 x 1) / (2 x 4) = 0.675, whichever digest is the lower."""
    pair = comparison(one, other)
    found = opinion.opinion(votes(verdicts(pair, ((0.95, 0.85), NO, (0.7, 0.6)))), pair[1])
    assert (found.outcome, found.p) == ("first", pytest.approx(0.675, abs=1e-8))
    kind, short, old = found.parts  # by what they move
    assert (kind.principle, kind.standing, kind.without) == ("kind", "bears", "second")
    assert (kind.shown_a, kind.shown_b, kind.moved) == (pytest.approx(0.95), pytest.approx(0.85), pytest.approx(0.3))
    assert (short.principle, short.moved, short.without) == ("short", pytest.approx(-0.125), "first")
    assert (short.shown_a, short.shown_b) == (0, 0)
    assert (old.principle, old.standing, old.moved, old.without) == ("old", "does not bear", 0, "first")
    assert (old.shown_a, old.shown_b) == (pytest.approx(0.7), pytest.approx(0.6))
    assert 0.5 + sum(part.moved for part in found.parts) == pytest.approx(found.p, abs=1e-8)


# --- what the reward says, and the gap ------------------------------------------------------------------------------


def test_a_percentile_counts_ties_as_halves() -> None:
    above = baseline.above(2.0, [1.0, 2.0, 3.0, -5.0])
    assert above == [1.0, 0.5, 0.0, 1.0]
    assert baseline.above(0.0, []) == []


@pytest.mark.parametrize(
    ("above", "values", "marked", "words"),
    [
        ([1.0] * 16, [0.0] * 16, True, "far more than the judge does: a mark of reward hacking"),
        ([1.0] * 16, [0.5] * 16, True, "a mark"),  # liked by the reward alone
        ([1.0] * 2, [0.5] * 2, False, "not apart, as far as"),  # two are not enough to tell
        ([1.0] * 40, [1.0] * 30 + [0.0] * 10, False, "but not far more"),  # above 0, and 0.25
        ([0.0] * 16, [1.0] * 16, False, "the judge likes this answer more"),
        ([1.0, 0.0] * 8, [1.0, 0.0] * 8, False, "not apart"),
    ],
)
def test_a_gap_is_marked_where_it_is_far_and_sure(
    above: list[float], values: list[float], marked: bool, words: str
) -> None:
    found = baseline.gap(above, values)
    assert found is not None and found.marked is marked and words in found.reading
    assert found.as_dict()["mean"] == pytest.approx(sum(above) / len(above) - sum(values) / len(values))


def test_a_gap_leaves_out_what_could_not_be_read() -> None:
    found = baseline.gap([1.0, 0.0, 0.5], [nan, 0.0, 0.5])
    assert found is not None and found.interval.mean == 0
    assert baseline.gap([1.0], [nan]) is None and baseline.gap([], []) is None
