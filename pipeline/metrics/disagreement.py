"""Where two constitutions label the same verdicts differently, and which of their principles carry that.

A label's p is 1/2 + P / (2 B), P the sum of w * s over the verdicts that vote and B the sum of their weights. With
weights changed by D, p moves by the sum of D * (s - P / B) / (2 B'), B' the voting weight afterwards: exactly, and a
principle whose weight is the same in both has no part in it. Seen from the other constitution the sum is the same with
its terms shared out otherwise, so the mean of both is told: B against A is then A against B turned round.

With tiers a label is the mean of one tier. Where both labels are of the same tier all of that holds within it; where
they are not, p moves by B's terms less A's: the sum of w * s / (2 B) over the tier of B's label, less the same of A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.difference import Diff
from constitution.principles import Principle
from constitution.records import PROBABILITY, WEIGHT, Id, Label, Voice, together
from constitution.tally import HARD, Integers, Panel, speaks
from pipeline.metrics import attribution
from pipeline.metrics.attribution import OUTCOMES
from pipeline.metrics.voting import Votes

Standing: TypeAlias = Literal["only in A", "only in B", "reworded", "reweighted", "same"]


@dataclass(frozen=True)
class Clause:
    """A principle of either constitution, A's on the left: `ids`, `questions` (that a judge is asked about it) and
    `voices`, each None where a constitution lacks it."""

    ids: tuple[str | None, str | None]
    questions: tuple[Id | None, Id | None]
    voices: tuple[Voice | None, Voice | None]

    @property
    def weights(self) -> tuple[int | None, int | None]:
        """x 1e3."""
        one, other = (None if voice is None else voice.weight for voice in self.voices)
        return one, other

    @property
    def counted(self) -> tuple[str, str]:
        """How it counts in each, as people read it: "3", "1, tier 2", "1, hard"; empty where it is not."""
        one, other = (
            ""
            if v is None
            else f"{v.weight / WEIGHT:g}" + (", hard" if v.hard else f", tier {v.tier}" if v.tier else "")
            for v in self.voices
        )
        return one, other

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
        return "reweighted" if self.voices[0] != self.voices[1] else "same"


def clauses(
    difference: Diff,
    a: Mapping[str, Id],
    b: Mapping[str, Id],
    voices: tuple[Mapping[str, Voice], Mapping[str, Voice]] = ({}, {}),
) -> list[Clause]:
    """The principles of both, B's in its order and then those of A alone. `a`, `b`: questions by principle's id;
    `voices`: the same of voices, where they are more than a weight."""

    def said(side: int, principle: Principle) -> Voice:
        return voices[side].get(principle.id, Voice(principle.weight))

    earlier = {change.id: change.old.id for change in difference.renamed if change.old}
    old = {p.id: p for p in difference.old}
    found = []
    for new in difference.new:
        was = old.pop(earlier.get(new.id, new.id), None)
        found.append(
            Clause(
                (was.id if was else None, new.id),
                (a[was.id] if was else None, b[new.id]),
                (said(0, was) if was else None, said(1, new)),
            )
        )
    return found + [Clause((gone.id, None), (a[gone.id], None), (said(0, gone), None)) for gone in old.values()]


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


@dataclass(frozen=True)
class _Side:
    """The labels under one constitution. `layer`: the tier that each is from, infinite for the hard constraints and NaN
    for nobody's; `bearing`, `mean`: the weight that votes in it, and the mean of s, x 1e9, 0 where all abstain."""

    panel: Panel
    p: Integers
    outcome: attribution.Codes
    layer: NDArray[np.float64]
    bearing: Integers
    mean: NDArray[np.float64]

    @classmethod
    def of(cls, votes: Votes, panel: Panel) -> _Side:
        sums = attribution.sums(votes, panel)
        p, outcome = attribution.labels(sums, votes.rule)
        place = sums.resolve(votes.rule)[2]
        tier, bearing, pull = np.full(len(p), np.nan), np.zeros_like(p), np.zeros_like(p)
        layers = [(HARD, np.inf, sums.hard[0] + sums.hard[1])]
        layers += [(i, level, of) for i, (level, of) in enumerate(zip(panel.levels, sums.tiers, strict=True))]
        for i, level, of in layers:
            here = (place == i) & (of.bearing > 0)
            tier[here], bearing[here], pull[here] = level, of.bearing[here], of.pull[here]
        return cls(panel, p, outcome, tier, bearing, pull / np.maximum(bearing, 1))

    def weight(self, votes: Votes, column: int) -> Integers:
        """The weight with which the column's verdict votes in the layer of each label."""
        hard, level = self.panel.hard[column], self.panel.tiers[column]
        here = votes.bears[:, column] & (self.layer == (np.inf if hard else level))
        if hard:
            here = here & speaks(votes.s(column), votes.rule)
        weight: Integers = here * self.panel.weights[column]
        return weight


class Disagreement:
    """Comparisons whose labels differ under the voices of A and of B and can be read under both; the votes are on each
    question of either constitution, once."""

    def __init__(self, votes: Votes, clauses: Sequence[Clause]) -> None:
        self.votes, self.clauses = votes, clauses
        self._column = {question: number for number, question in enumerate(votes.questions)}
        self._sides = [_Side.of(votes, self._panel([side] * len(clauses))) for side in (0, 1)]
        (self.p_a, self.p_b), self._outcome = (side.p for side in self._sides), self._sides[1].outcome
        self._towards = np.sign(self.p_b - self.p_a)  # 1 where B's label is more for the first answer
        self._steps = [self._step(column) for column in range(len(votes.questions))]

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
                question, voice = clause.questions[side], clause.voices[side]
                if question is not None and voice and voice.weight and self._speaks(question, sign)[row]:
                    force = voice.weight * abs(int(self.votes.s(self._column[question])[row]))
                    heard.append((not voice.hard, -voice.tier, -force, clause.ids[side] or ""))
            found.append(tuple(name for *_, name in sorted(heard)))
        return found[0], found[1]

    def _panel(self, sides: Sequence[int]) -> Panel:
        """The voices by column, each clause as it is on the side given for it."""
        said: dict[int, list[Voice]] = {}
        for clause, side in zip(self.clauses, sides, strict=True):
            question, voice = clause.questions[side], clause.voices[side]
            if question is not None and voice is not None:
                said.setdefault(self._column[question], []).append(voice)
        silent = self.votes.panel
        found = [together(said[i]) if i in said else Voice(0) for i in range(len(self.votes.questions))]
        return Panel.of(found).but(clamps=silent.clamps)

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
        for side, sign in ((0, -1), (1, 1)):
            question, voice = clause.questions[side], clause.voices[side]
            if question is not None and voice is not None and voice.weight:
                column = self._column[question]
                share = voice.weight / self._sides[side].panel.weights[column]  # of those that share the words
                total += sign * share * self._steps[column][side]
        return float((total * self._towards).mean() / PROBABILITY)

    def _step(self, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What p moves by for the weight that the question has under A, and under B, x 1e9. Within one tier: seen from
        A, from B, and the mean of both. Where the labels are of different tiers (or all abstain under one): what the
        verdict adds to each p."""
        s, (a, b) = self.votes.s(column), self._sides
        same = a.layer == b.layer
        leverage = ((s - a.mean) / np.maximum(2 * b.bearing, 1) + (s - b.mean) / np.maximum(2 * a.bearing, 1)) / 2
        moves = [np.where(same, leverage, s / np.maximum(2 * side.bearing, 1)) for side in (a, b)]
        of_a, of_b = (side.weight(self.votes, column) * move for side, move in zip((a, b), moves, strict=True))
        return np.asarray(of_a, float), np.asarray(of_b, float)

    def _alone(self, clause: Clause) -> int:
        panel = self._panel([int(other is clause) for other in self.clauses])
        _, outcomes = attribution.labels(attribution.sums(self.votes, panel), self.votes.rule)
        return int((outcomes == self._outcome).sum())


def table(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How many labels have each outcome under A and under B, those that no label has included."""
    counts = {(a, b): 0 for a in OUTCOMES for b in OUTCOMES}
    for pair in pairs:
        counts[pair] += 1
    return counts
