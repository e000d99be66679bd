"""Where two constitutions label the same verdicts differently, and which of their principles carry that.

A label's p is 1/2 + P / (2 B), P the sum of w * s over the verdicts that vote and B the sum of their weights. With
weights changed by D, p moves by the sum of D * (s - P / B) / (2 B'), B' the voting weight afterwards: exactly, and a
principle whose weight is the same in both has no part in it. Seen from the other constitution the sum is the same with
its terms shared out otherwise, so the mean of both is told: B against A is then A against B turned round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.difference import Diff
from constitution.records import PROBABILITY, Id, Label
from pipeline.metrics import attribution
from pipeline.metrics.attribution import OUTCOMES
from pipeline.metrics.voting import Integers, Votes

Standing: TypeAlias = Literal["only in A", "only in B", "reworded", "reweighted", "same"]


@dataclass(frozen=True)
class Clause:
    """A principle of either constitution, A's on the left: `ids`, `questions` (that a judge is asked about it) and
    `weights` (x 1e3), each None where a constitution lacks it."""

    ids: tuple[str | None, str | None]
    questions: tuple[Id | None, Id | None]
    weights: tuple[int | None, int | None]

    @property
    def principle(self) -> str:
        """Its id; in B where it is another one there."""
        found = self.ids[1] or self.ids[0]
        assert found is not None
        return found

    @property
    def standing(self) -> Standing:
        """What a label sees of it: a new title, critique or id is the same."""
        if self.ids[1] is None:
            return "only in A"
        if self.ids[0] is None:
            return "only in B"
        if self.questions[0] != self.questions[1]:
            return "reworded"
        return "reweighted" if self.weights[0] != self.weights[1] else "same"

    @property
    def change(self) -> dict[Id, int]:
        """By question, how much more it weighs in B."""
        found: dict[Id, int] = {}
        for question, weight, sign in zip(self.questions, self.weights, (-1, 1), strict=True):
            if question is not None and weight is not None:
                found[question] = found.get(question, 0) + sign * weight
        return {question: weight for question, weight in found.items() if weight}


def clauses(difference: Diff, a: Mapping[str, Id], b: Mapping[str, Id]) -> list[Clause]:
    """The principles of both, B's in its order and then those of A alone. `a`, `b`: questions by principle's id."""
    earlier = {change.id: change.old.id for change in difference.renamed if change.old}
    old = {p.id: p for p in difference.old}
    found = []
    for new in difference.new:
        was = old.pop(earlier.get(new.id, new.id), None)
        found.append(
            Clause(
                (was.id if was else None, new.id),
                (a[was.id] if was else None, b[new.id]),
                (was.weight if was else None, new.weight),
            )
        )
    return found + [Clause((gone.id, None), (a[gone.id], None), (gone.weight, None)) for gone in old.values()]


def outcome(label: Label) -> str:
    """What a label says, as training reads it: one of `attribution.OUTCOMES`."""
    first = label.preferred_first
    if first is None:
        return "unreadable" if label.state == "unreadable" else "tied"
    return "first" if first else "second"


@dataclass(frozen=True)
class Carried:
    """A principle's part in the labels that differ and can be read under both.

    `for_a`: on how many its verdict, being A's, speaks for what A's label says against B's; `for_b`: the same of B.
    `moved`: what its change moves p towards B's label, the mean of them; over all principles it adds up to the mean of
    |p under B - p under A|. `alone`: how many become B's label where nothing but this principle is as in B.
    """

    clause: Clause
    for_a: int
    for_b: int
    moved: float
    alone: int


class Disagreement:
    """Comparisons whose labels differ under the weights `a` and `b` (by column of the votes) and can be read under
    both; the votes are on each question of either constitution, once."""

    def __init__(self, votes: Votes, clauses: Sequence[Clause]) -> None:
        self.votes, self.clauses = votes, clauses
        self._column = {question: number for number, question in enumerate(votes.questions)}
        self._a, self._b = (self._weights(side) for side in (0, 1))
        sums = [attribution.sums(votes, weights) for weights in (self._a, self._b)]
        (self.p_a, _), (self.p_b, self._outcome) = (attribution.labels(s, votes.rule) for s in sums)
        self._towards = np.sign(self.p_b - self.p_a)  # 1 where B's label is more for the first answer
        self._means = [s.pull / np.maximum(s.bearing, 1) for s in sums]  # of s, x 1e9; 0 where all abstain
        self._bearing = [s.bearing for s in sums]

    def carried(self) -> list[Carried]:
        """By principle, those that carry the most first."""
        found = [
            Carried(
                clause,
                int(self._speaks(clause.questions[0], -1).sum()),
                int(self._speaks(clause.questions[1], 1).sum()),
                self._moved(clause),
                self._alone(clause),
            )
            for clause in self.clauses
        ]
        return sorted(found, key=lambda c: -abs(c.moved))

    def speakers(self, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of one comparison, A's principles that speak for A's label against B's, and B's for B's: heaviest first."""
        found = []
        for side, sign in ((0, -1), (1, 1)):
            heard = []
            for clause in self.clauses:
                question, weight = clause.questions[side], clause.weights[side]
                if question is not None and weight and self._speaks(question, sign)[row]:
                    force = weight * abs(int(self.votes.s(self._column[question])[row]))
                    heard.append((-force, clause.ids[side] or ""))
            found.append(tuple(name for _, name in sorted(heard)))
        return found[0], found[1]

    def _weights(self, side: int) -> Integers:
        weights = np.zeros(len(self.votes.questions), dtype=np.int64)
        for clause in self.clauses:
            question, weight = clause.questions[side], clause.weights[side]
            if question is not None and weight is not None:
                weights[self._column[question]] += weight
        return weights

    def _speaks(self, question: Id | None, sign: int) -> NDArray[np.bool_]:
        """Where the verdict votes and names the answer that B's label (1) or A's (-1) is more for."""
        if question is None:
            return np.zeros(len(self.votes.comparisons), dtype=np.bool_)
        column = self._column[question]
        found: NDArray[np.bool_] = self.votes.bears[:, column] & (np.sign(self.votes.s(column)) == sign * self._towards)
        return found

    def _moved(self, clause: Clause) -> float:
        if not len(self.votes.comparisons):
            return 0.0
        total = np.zeros(len(self.votes.comparisons))
        for question, weight in clause.change.items():
            column = self._column[question]
            total += np.where(self.votes.bears[:, column], weight * self._leverage(column), 0.0)
        return float((total * self._towards).mean() / PROBABILITY)

    def _leverage(self, column: int) -> NDArray[np.float64]:
        """What p moves by for each unit of weight that the question gains, x 1e9: seen from A, from B, and the mean of
        both. Where every principle of one constitution abstains, its label cannot be seen from the other."""
        s, others = self.votes.s(column), self._bearing[::-1]
        seen = [(s - mean) / (2 * np.maximum(bearing, 1)) for mean, bearing in zip(self._means, others, strict=True)]
        known = np.stack([bearing > 0 for bearing in others])
        leverage: NDArray[np.float64] = np.where(known, np.stack(seen), 0.0).sum(axis=0) / np.maximum(known.sum(0), 1)
        return leverage

    def _alone(self, clause: Clause) -> int:
        weights = self._a.copy()
        for question, more in clause.change.items():
            weights[self._column[question]] += more
        _, outcomes = attribution.labels(attribution.sums(self.votes, weights), self.votes.rule)
        return int((outcomes == self._outcome).sum())


def table(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How many labels have each outcome under A and under B, those that no label has included."""
    counts = {(a, b): 0 for a in OUTCOMES for b in OUTCOMES}
    for pair in pairs:
        counts[pair] += 1
    return counts
