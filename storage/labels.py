"""Labels: a query over verdicts, never a stored state. `constitution.records.LabelRule` says what the rule means.

All arithmetic is on integers (probabilities x 1e9, weights x 1e3) and in the database, by one expression that means
the same on SQLite and Postgres: the order of a float sum would change the last bit of half of the labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, and_, case, cast, func, literal, or_, select

from constitution.records import PROBABILITY, Id, Label, LabelRule
from storage import tables
from storage.database import Database, chunks, patient

HALF = PROBABILITY // 2
MAX_WEIGHT = 4 * 10**9  # sums of weight x probability stay within 64 bits

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


class Labels(Database):
    def labels(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> list[Label]:
        """The label of each comparison (once, in order) under the weights and the rule.

        A question without a verdict counts as unreadable. p is rounded down to 1e-9, and ties are told from that p;
        the p of an unreadable label is one half. Raises KeyError for a comparison that is not stored.
        """
        _check(weights)
        labels: dict[Id, Label] = {}
        wanted = list(dict.fromkeys(comparisons))
        for some in chunks(wanted):
            labels.update((label.comparison, label) for label in self._labels(some, weights, rule))
        return [labels[id] for id in wanted]

    @patient
    def _labels(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> list[Label]:
        with self._read() as connection:
            rows = connection.execute(_label_query(comparisons, weights, rule))
            return [Label(id, state, p) for id, state, p in rows]

    def contributions(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> Iterator[Contribution]:
        """What each verdict adds to its comparison's label: for attribution and reports."""
        _check(weights)
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


def _check(weights: Weights) -> None:
    if not weights or min(weights.values()) < 0 or sum(weights.values()) > MAX_WEIGHT:
        raise ValueError("labels need at least one question, and weights from 0 to 4 million in all")


def _units(value: float) -> ColumnElement[int]:
    """A fraction of the rule as the store's integers."""
    return _number(round(value * PROBABILITY))


def _number(value: int) -> ColumnElement[int]:
    return literal(value, BigInteger)


# --- the rule as SQL, about one row of `verdict` -------------------------------------------------------------------


def _s() -> ColumnElement[int]:
    verdict = tables.verdict.c
    return cast(verdict.p1, BigInteger) + verdict.p2 - PROBABILITY


def _readable(rule: LabelRule) -> ColumnElement[bool]:
    verdict = tables.verdict.c
    return and_(verdict.mass1 >= _units(rule.min_mass), verdict.mass2 >= _units(rule.min_mass))


def _bears(rule: LabelRule) -> ColumnElement[bool]:
    verdict = tables.verdict.c
    far = func.abs(_s()) >= _units(rule.min_margin)
    if not rule.consistent:
        return far
    same = or_(and_(verdict.p1 > HALF, verdict.p2 > HALF), and_(verdict.p1 < HALF, verdict.p2 < HALF))
    return and_(far, same)


def _label_query(comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> Select[Any]:
    """(comparison, state, p) of each comparison."""
    sums = _sums(comparisons, weights, rule).subquery()
    readable, bearing, pull = sums.c.readable, sums.c.bearing, sums.c.pull
    # 1/2 + pull / (2 * bearing), as one division of numbers that are not negative: both databases round it down.
    voted = case((bearing > 0, (bearing * _number(PROBABILITY) + pull) // (2 * bearing)), else_=_number(HALF))
    needed = _units(rule.min_readable) * sum(weights.values())
    unreadable = readable * _number(PROBABILITY) < needed
    tied = or_(bearing == 0, func.abs(2 * voted - PROBABILITY) < _units(rule.tie_margin))
    state = case((unreadable, "unreadable"), (tied, "tied"), else_="decided")
    return select(sums.c.id, state, case((unreadable, _number(HALF)), else_=voted))


def _sums(comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> Select[Any]:
    """For each comparison the weight that is readable, the weight that bears, and the sum of weight x s that bears."""
    comparison, verdict = tables.comparison.c.id, tables.verdict.c
    weight = cast(case(dict(weights), value=verdict.question, else_=0), BigInteger)
    readable = _readable(rule)
    bears = and_(readable, _bears(rule))

    def total(condition: ColumnElement[bool], value: ColumnElement[int], name: str) -> ColumnElement[int]:
        # Postgres sums BIGINT to NUMERIC, whose division is not an integer's
        return cast(func.sum(case((condition, value), else_=_number(0))), BigInteger).label(name)

    answered = and_(verdict.comparison == comparison, verdict.question.in_(list(weights)))
    return (
        select(comparison, total(readable, weight, "readable"))
        .add_columns(total(bears, weight, "bearing"), total(bears, weight * _s(), "pull"))
        .join_from(tables.comparison, tables.verdict, answered, isouter=True)
        .where(comparison.in_(comparisons))
        .group_by(comparison)
    )
