"""Verdicts as arrays, and what they come to as votes under a label rule: which can be read, vote, abstain.

The rule is that of the query in `storage.labels`, integer for integer; here it is applied to a matrix, because a query
for each principle would read every verdict as often as there are principles. Nothing here reads a store: rows come as
arrays. What votes make of a label is `attribution.py`'s, by the arithmetic of `constitution.tally`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from constitution.records import PROBABILITY, Id, LabelRule, Verdict, Voice
from constitution.tally import HALF, MAX_WEIGHT, Flags, Integers, Panel, units

__all__ = ["HALF", "Flags", "Integers", "units"]  # of the tally, for those who read votes


class Evidence(Protocol):
    """Verdicts as arrays: n comparisons by k questions. `mass` is the lower of a verdict's two; where `present` is
    false there is no verdict, and the other numbers mean nothing."""

    @property
    def comparisons(self) -> Sequence[Id]: ...
    @property
    def questions(self) -> Sequence[Id]: ...
    @property
    def s(self) -> NDArray[Any]: ...
    @property
    def p1(self) -> NDArray[Any]: ...
    @property
    def p2(self) -> NDArray[Any]: ...
    @property
    def mass(self) -> NDArray[Any]: ...
    @property
    def present(self) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Votes:
    """What each principle's verdicts come to under a rule: n comparisons by k principles.

    `p1`, `p2`: the two orders' probabilities for the comparison's first answer, x 1e9. `present`: there is a verdict.
    `readable`, `bears`: as the rule says; what bears can be read and votes, what else can be read abstains.
    """

    comparisons: tuple[Id, ...]
    principles: tuple[str, ...]
    questions: tuple[Id, ...]  # by principle; principles with the same words share one
    panel: Panel  # the voice of each principle by itself; see `shared`
    rule: LabelRule
    p1: NDArray[np.int32]
    p2: NDArray[np.int32]
    present: Flags
    readable: Flags
    bears: Flags

    @property
    def weights(self) -> Integers:
        """By principle, in thousandths."""
        return self.panel.weights

    def s(self, principle: int | slice = slice(None), rows: slice = slice(None)) -> Integers:
        """p1 + p2 - 1, x 1e9, as the voice lets it count: positive for the first answer."""
        s = self.p1[rows, principle].astype(np.int64) + self.p2[rows, principle] - PROBABILITY
        most = self.panel.clamps[principle]
        return s if np.all(most >= PROBABILITY) else np.clip(s, -most, most)

    def shared(self, panel: Panel | None = None) -> Panel:
        """The panel (or another in its place) as it counts: principles with the same words have one voice, in the
        highest tier of theirs, and hard where one of them is (`constitution.records.together`)."""
        panel = panel or self.panel
        if len(set(self.questions)) == len(self.questions):
            return panel
        tiers, hard = panel.tiers.copy(), panel.hard.copy()
        for question in set(self.questions):
            places = [i for i, asked in enumerate(self.questions) if asked == question]
            tiers[places], hard[places] = panel.tiers[places].max(), panel.hard[places].any()
        return panel.but(tiers=tiers, hard=hard)

    def part(self, rows: slice = slice(None), principles: Sequence[str] | None = None) -> Votes:
        """Some of the comparisons, or of the principles."""
        names = self.principles if principles is None else tuple(principles)
        kept = [self.principles.index(name) for name in names]

        def of(array: NDArray[Any]) -> NDArray[Any]:
            return array[rows][:, kept]

        return Votes(
            self.comparisons[rows], names, tuple(self.questions[i] for i in kept), self.panel.part(kept), self.rule,
            of(self.p1), of(self.p2), of(self.present), of(self.readable), of(self.bears),
        )  # fmt: skip


def votes(evidence: Evidence, questions: Mapping[str, Id], voices: Mapping[str, Voice | int], rule: LabelRule) -> Votes:
    """What the verdicts come to. `questions`, `voices`: by principle, in the constitution's order (a number is a voice
    of that weight, and nothing else); a question that the evidence does not have was never answered. Raises ValueError
    for weights that are too large to be summed."""
    each = [Voice(v) if isinstance(v, int) else v for v in (voices[name] for name in questions)]
    if sum(voice.weight for voice in each) > MAX_WEIGHT:
        raise ValueError("weights come to at most 4 million in all")
    rules = [voice.rule or rule for voice in each]
    least = np.array([units(r.min_mass) for r in rules], np.int64)
    margin = np.array([units(r.min_margin) for r in rules], np.int64)
    strict = np.array([r.consistent for r in rules], np.bool_)
    columns = {question: number for number, question in enumerate(evidence.questions)}
    missing = np.zeros((len(evidence.comparisons), 1), dtype=bool)
    taken = [columns.get(question) for question in questions.values()]

    def column(values: NDArray[Any], kind: Any) -> NDArray[Any]:
        found = [missing[:, 0] if i is None else values[:, i] for i in taken]
        return np.stack(found, axis=1).astype(kind) if found else np.zeros((len(missing), 0), dtype=kind)

    p1, p2 = column(evidence.p1, np.int32), column(evidence.p2, np.int32)
    present = column(evidence.present, np.bool_)
    readable = present & (column(evidence.mass, np.int32) >= least)
    far = np.abs(p1.astype(np.int64) + p2 - PROBABILITY) >= margin
    bears = readable & far & np.where(strict, agree(p1, p2), ~even(p1, p2))
    return Votes(
        tuple(evidence.comparisons), tuple(questions), tuple(questions.values()), Panel.of(each), rule,
        p1, p2, present, readable, bears,
    )  # fmt: skip


def agree(p1: NDArray[Any], p2: NDArray[Any]) -> Flags:
    """Where both orders name the same answer; an even order names none."""
    return ((p1 > HALF) & (p2 > HALF)) | ((p1 < HALF) & (p2 < HALF))


def even(p1: NDArray[Any], p2: NDArray[Any]) -> Flags:
    """Where both orders say exactly one half: the verdict of a judge that finds nothing to choose by. It abstains."""
    found: Flags = (p1 == HALF) & (p2 == HALF)
    return found


# --- verdicts that no store has --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """Verdicts as `Evidence`, of comparisons that no store has."""

    comparisons: tuple[Id, ...]
    questions: tuple[Id, ...]
    s: NDArray[np.int64]
    p1: NDArray[np.int32]
    p2: NDArray[np.int32]
    mass: NDArray[np.int32]
    present: NDArray[np.bool_]


def evidence(verdicts: Sequence[Verdict]) -> Answered:
    """Comparisons and questions in the order in which they come first."""
    rows = {id: row for row, id in enumerate(dict.fromkeys(v.comparison for v in verdicts))}
    columns = {id: column for column, id in enumerate(dict.fromkeys(v.question for v in verdicts))}
    shape = (len(rows), len(columns))
    p1, p2, mass = (np.zeros(shape, np.int32) for _ in range(3))
    present = np.zeros(shape, np.bool_)
    for v in verdicts:
        here = rows[v.comparison], columns[v.question]
        p1[here], p2[here], mass[here], present[here] = v.p1, v.p2, min(v.mass1, v.mass2), True
    s = np.where(present, p1.astype(np.int64) + p2 - PROBABILITY, 0)
    return Answered(tuple(rows), tuple(columns), s, p1, p2, mass, present)
