"""Labels: a query over verdicts, never a stored state. `constitution.records.LabelRule` says what the rule means.

All arithmetic is on integers (probabilities x 1e9, weights x 1e3), because the order of a float sum would change the
last bit of half of the labels. What a verdict says under the rule is one expression that means the same on SQLite and
Postgres; the weights are summed over columns of it, as `storage.evidence` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, Text, and_, case, cast, func, literal, or_, select

from constitution.records import PROBABILITY, Id, Label, LabelRule, LabelState
from storage import tables
from storage.database import chunks, patient
from storage.evidence import LIMIT, Gathering, Integers, digits

HALF = PROBABILITY // 2
MAX_WEIGHT = 4 * 10**9  # sums of weight x probability stay within 64 bits
STATES: tuple[LabelState, ...] = ("decided", "tied", "unreadable")
DECIDED, TIED, UNREADABLE = range(3)

# A vote, as a number that is not negative: s + 1e9 where the verdict votes on the pair, or else one of these.
MUTE = 3 * PROBABILITY  # it is readable and abstains
DARK = 4 * PROBABILITY  # it is unreadable
NONE = 5 * PROBABILITY  # there is no verdict

Weights = Mapping[Id, int]  # question -> weight x 1e3; principles that share a question are added by the caller


@dataclass(frozen=True, slots=True)
class Contribution:
    """One verdict's part in a label. `s`: p1 + p2 - 1 in units of 1e-9, positive for the comparison's first answer."""

    comparison: Id
    question: Id
    weight: int
    s: int
    readable: bool
    bears: bool


@dataclass(frozen=True, slots=True)
class Sums:
    """Of each comparison of a slice: the weight that has a verdict, that is readable, that votes, and the sum of
    weight x s that votes. `total`: the weight of all questions."""

    present: Integers
    readable: Integers
    bearing: Integers
    pull: Integers
    total: int

    @classmethod
    def of(cls, votes: Mapping[Id, Integers], weights: Weights) -> Self:
        """`votes`: by question, the vote on each comparison of the slice."""
        each = np.array(list(weights.values()), np.int64)
        said = np.stack([votes[question] for question in weights])
        bears = said < MUTE
        pull = each @ np.where(bears, said - PROBABILITY, 0)
        return cls(each @ (said < NONE), each @ (said < DARK), each @ bears, pull, sum(weights.values()))

    def unreadable(self, rule: LabelRule) -> NDArray[np.bool_]:
        return self.readable * PROBABILITY < units(rule.min_readable) * self.total

    def label(self, rule: LabelRule, whole: bool = False) -> tuple[Integers, Integers]:
        """The place in STATES, and p, of each label."""
        # 1/2 + pull / (2 * bearing), as one division of numbers that are not negative: it rounds down
        p = (self.bearing * PROBABILITY + self.pull) // np.maximum(2 * self.bearing, 1)
        p = np.where(self.bearing > 0, p, HALF)
        tied = (self.bearing == 0) | (abs(2 * p - PROBABILITY) < units(rule.tie_margin))
        unreadable = self.unreadable(rule)
        if whole:
            unreadable = unreadable | (self.present < self.total)
        return np.where(unreadable, UNREADABLE, np.where(tied, TIED, DECIDED)), np.where(unreadable, HALF, p)


class Labels(Gathering):
    def labels(
        self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule, *, whole: bool = False
    ) -> list[Label]:
        """The label of each comparison (once, in order) under the weights and the rule.

        A question without a verdict counts as unreadable; with `whole` its comparison does, however much the others
        weigh: what a judge was asked in part (too long for it under one principle) is not labelled. p is rounded down
        to 1e-9, and ties are told from that p; the p of an unreadable label is one half. Raises KeyError for a
        comparison that is not stored.
        """
        check(weights)
        labels: dict[Id, Label] = {}

        def work(some: Sequence[Id]) -> tuple[Integers, Integers]:
            return Sums.of(self._votes(some, list(weights), rule), weights).label(rule, whole)

        for some, (states, p) in self._in_slices(comparisons, work):
            for id, state, probability in zip(some, states.tolist(), p.tolist(), strict=True):
                labels[id] = Label(id, STATES[state], probability)
        return [labels[id] for id in dict.fromkeys(comparisons)]

    def _votes(self, some: Sequence[Id], questions: Sequence[Id], rule: LabelRule) -> dict[Id, Integers]:
        """By question, the vote on each comparison of a slice. Raises KeyError for one that is not stored."""
        readable = _readable(rule)
        vote = case(
            (and_(readable, _bears(rule)), digits(_s() + PROBABILITY)), (readable, _code(MUTE)), else_=_code(DARK)
        )
        votes = {question: np.full(len(some), NONE, np.int64) for question in questions}
        asked = np.zeros(len(some), np.bool_)
        for answers in self._answers(some, questions, vote):
            votes[answers.question][answers.places] = answers.numbers[0]
            asked[answers.places] = True
        self._require_stored([some[place] for place in np.flatnonzero(~asked).tolist()])
        return votes

    def contributions(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> Iterator[Contribution]:
        """What each verdict adds to its comparison's label: for attribution and reports."""
        check(weights)
        for some in chunks(list(dict.fromkeys(comparisons))):
            yield from self._contributions(some, weights, rule)

    @patient
    def _contributions(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> list[Contribution]:
        verdict = tables.verdict.c
        readable = _readable(rule)
        numbers = (_s(), case((readable, 1), else_=0), case((and_(readable, _bears(rule)), 1), else_=0))
        query = (
            select(verdict.comparison, verdict.question, *numbers)
            .where(verdict.comparison.in_(comparisons), verdict.question.in_(list(weights)))
            .order_by(verdict.comparison, verdict.question)
        )
        with self._read() as connection:
            return [
                Contribution(comparison, question, weights[question], s, bool(can), bool(does))
                for comparison, question, s, can, does in connection.execute(query)
            ]


def check(weights: Weights) -> None:
    if not weights or min(weights.values()) < 0 or sum(weights.values()) > MAX_WEIGHT:
        raise ValueError("labels need at least one question, and weights from 0 to 4 million in all")


def units(value: float) -> int:
    """A fraction of the rule as the store's integers."""
    return round(value * PROBABILITY)


# --- the rule as SQL, about one row of `verdict` -------------------------------------------------------------------


def _code(vote: int) -> ColumnElement[str]:
    """A vote without a number, written as `digits` would: most are of these, and numbers take long to write."""
    return literal(str(LIMIT + vote), Text)


def _number(value: int) -> ColumnElement[int]:
    return literal(value, BigInteger)


def _s() -> ColumnElement[int]:
    verdict = tables.verdict.c
    return cast(verdict.p1, BigInteger) + verdict.p2 - PROBABILITY


def _readable(rule: LabelRule) -> ColumnElement[bool]:
    verdict, least = tables.verdict.c, _number(units(rule.min_mass))
    return and_(verdict.mass1 >= least, verdict.mass2 >= least)


def _bears(rule: LabelRule) -> ColumnElement[bool]:
    verdict = tables.verdict.c
    far = func.abs(_s()) >= _number(units(rule.min_margin))
    if not rule.consistent:
        return and_(far, or_(verdict.p1 != HALF, verdict.p2 != HALF))  # exactly even in both orders: it abstains
    same = or_(and_(verdict.p1 > HALF, verdict.p2 > HALF), and_(verdict.p1 < HALF, verdict.p2 < HALF))
    return and_(far, same)
