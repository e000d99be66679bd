"""Labels: a query over verdicts, never a stored state. `constitution.records.LabelRule` says what the rule means.

All arithmetic is on integers (probabilities x 1e9, weights x 1e3), because the order of a float sum would change the
last bit of half of the labels. The database sums, by one expression that means the same on SQLite and Postgres; the
one division that makes a label of the sums is done here, for labels and for their outlook alike.

What makes it fast: many comparisons are read as a few ranges of ids, since verdicts lie in the order of (question,
comparison). By name they take twice as long on SQLite, and on Postgres each list of names is a scan of the table.
And weights are a table to join: a CASE with a branch a question is searched again for every verdict and every sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from sqlalchemy import CTE, BigInteger, ColumnElement, Connection, and_, case, cast, column, func, literal, or_, select
from sqlalchemy import values as sql_values

from constitution.records import PROBABILITY, Id, Label, LabelRule, LabelState
from storage import tables
from storage.database import Database, chunks, patient

HALF = PROBABILITY // 2
MAX_WEIGHT = 4 * 10**9  # sums of weight x probability stay within 64 bits
SLICE = 25_000  # comparisons that are read, and held, at once
NAMES = 10_000  # ids in one query where each is named: well under every driver's limit of parameters
FEW = 500  # so few are named without a look at who else is in their range
CROWD = 3  # a range is read whole where it holds at most so many times the comparisons that are wanted

Weights = Mapping[Id, int]  # question -> weight x 1e3; principles that share a question are added by the caller
Tally: TypeAlias = tuple[Id, tuple[int, ...]]  # a comparison and sums over its verdicts


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
class Bar:
    """What sums have to reach: the weight that must be readable (x 1e9), and |2p - 1| (x 1e9) to be no tie."""

    readable: int
    decided: int

    @classmethod
    def of(cls, weights: Weights, rule: LabelRule) -> Self:
        return cls(units(rule.min_readable) * sum(weights.values()), units(rule.tie_margin))

    def label(self, readable: int, bearing: int, pull: int) -> tuple[LabelState, int]:
        """State and p of a label, of the weight that is readable, that bears, and the sum of weight x s that bears."""
        if readable * PROBABILITY < self.readable:
            return "unreadable", HALF
        if bearing == 0:
            return "tied", HALF
        # 1/2 + pull / (2 * bearing), as one division that rounds down
        p = (bearing * PROBABILITY + pull) // (2 * bearing)
        return ("tied" if abs(2 * p - PROBABILITY) < self.decided else "decided"), p


class Labels(Database):
    def labels(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> list[Label]:
        """The label of each comparison (once, in order) under the weights and the rule.

        A question without a verdict counts as unreadable. p is rounded down to 1e-9, and ties are told from that p;
        the p of an unreadable label is one half. Raises KeyError for a comparison that is not stored.
        """
        check(weights)
        bar, asked = Bar.of(weights, rule), weighed(weights)
        numbers = sums(asked.c.weight0, rule)
        labels = {
            id: Label(id, *bar.label(*found))
            for some in slices(comparisons)
            for id, found in self._tallies(some, asked, numbers)
        }
        return [labels[id] for id in dict.fromkeys(comparisons)]

    @patient
    def _tallies(self, some: Sequence[Id], asked: CTE, numbers: Sequence[ColumnElement[int]]) -> list[Tally]:
        """The numbers, which are sums over verdicts, of each comparison of a slice; zeros where it has no verdict.

        Raises KeyError for a comparison that is not stored.
        """
        verdict = tables.verdict.c
        query = select(verdict.comparison, *numbers).join_from(
            asked, tables.verdict, verdict.question == asked.c.question
        )
        silent, found = set(some), []
        with self._read() as connection:
            for here in about(connection, some):
                for id, *tally in connection.execute(query.where(here).group_by(verdict.comparison)).all():
                    if id in silent:
                        silent.remove(id)
                        found.append((id, tuple(tally)))
            require_stored(connection, silent)
        return found + [(id, (0,) * len(numbers)) for id in silent]

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


# --- which verdicts are read ---------------------------------------------------------------------------------------


def slices(comparisons: Iterable[Id]) -> Iterator[Sequence[Id]]:
    """The comparisons, each once, in the order of the ids: so that a slice is a range."""
    return chunks(sorted(set(comparisons)), SLICE)


def about(connection: Connection, some: Sequence[Id]) -> list[ColumnElement[bool]]:
    """Conditions on `verdict` that find, one after the other, all rows about the comparisons of a slice.

    They may find rows about others, which the caller leaves out.
    """
    here = tables.verdict.c.comparison
    if len(some) > FEW:
        known = select(func.count()).where(tables.comparison.c.id.between(some[0], some[-1]))
        if connection.execute(known).scalar_one() <= CROWD * len(some):
            return [here.between(some[0], some[-1])]
    return [here.in_(names) for names in chunks(some, NAMES)]


def require_stored(connection: Connection, comparisons: Collection[Id]) -> None:
    id = tables.comparison.c.id
    counts = (select(func.count()).where(id.in_(some)) for some in chunks(list(comparisons), NAMES))
    unknown = len(comparisons) - sum(connection.execute(count).scalar_one() for count in counts)
    if unknown:
        raise KeyError(f"{unknown} of the comparisons are not in the store")


def weighed(*weightings: Weights) -> CTE:
    """A table of the questions: `question`, and `weight0`, `weight1`, ...: its weight in each weighting, or 0."""
    columns = [column(f"weight{number}", BigInteger) for number in range(len(weightings))]
    questions = dict.fromkeys(question for weights in weightings for question in weights)
    rows = [(question, *(weights.get(question, 0) for weights in weightings)) for question in questions]
    return sql_values(column("question", tables.ID), *columns, name="asked").data(rows).cte("asked")


# --- the rule as SQL -----------------------------------------------------------------------------------------------


def sums(weight: ColumnElement[int], rule: LabelRule) -> list[ColumnElement[int]]:
    """Over a comparison's verdicts: the weight that is readable, that bears, and the sum of weight x s that bears."""
    readable = _readable(rule)
    bears = and_(readable, _bears(rule))
    return [total(weight, readable), total(weight, bears), total(weight * _s(), bears)]


def total(value: ColumnElement[int], condition: ColumnElement[bool] | None = None) -> ColumnElement[int]:
    # Postgres sums BIGINT to NUMERIC, which comes back as Decimal
    summand = value if condition is None else case((condition, value), else_=_number(0))
    return cast(func.sum(summand), BigInteger)


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
        return far
    same = or_(and_(verdict.p1 > HALF, verdict.p2 > HALF), and_(verdict.p1 < HALF, verdict.p2 < HALF))
    return and_(far, same)
