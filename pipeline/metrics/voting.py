"""Verdicts as arrays, and what they come to as votes under a label rule: which can be read, vote, abstain.

The rule is that of the query in `storage.labels`, integer for integer; here it is applied to a matrix, because a query
for each principle would read every verdict as often as there are principles. Nothing here reads a store: rows come as
arrays. What votes make of a label is `attribution.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.records import PROBABILITY, Id, LabelRule, Verdict

HALF = PROBABILITY // 2
MAX_WEIGHT = 4 * 10**9  # as in the store: sums of weight x probability stay within 64 bits

Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


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
    weights: Integers  # by principle, in thousandths
    rule: LabelRule
    p1: NDArray[np.int32]
    p2: NDArray[np.int32]
    present: Flags
    readable: Flags
    bears: Flags

    def s(self, principle: int | slice = slice(None), rows: slice = slice(None)) -> Integers:
        """p1 + p2 - 1, x 1e9: positive for the first answer."""
        return self.p1[rows, principle].astype(np.int64) + self.p2[rows, principle] - PROBABILITY

    def part(self, rows: slice = slice(None), principles: Sequence[str] | None = None) -> Votes:
        """Some of the comparisons, or of the principles."""
        names = self.principles if principles is None else tuple(principles)
        kept = [self.principles.index(name) for name in names]

        def of(array: NDArray[Any]) -> NDArray[Any]:
            return array[rows][:, kept]

        return Votes(
            self.comparisons[rows], names, tuple(self.questions[i] for i in kept), self.weights[kept], self.rule,
            of(self.p1), of(self.p2), of(self.present), of(self.readable), of(self.bears),
        )  # fmt: skip


def votes(evidence: Evidence, questions: Mapping[str, Id], weights: Mapping[str, int], rule: LabelRule) -> Votes:
    """What the verdicts come to. `questions`, `weights`: by principle, in the constitution's order; a question that the
    evidence does not have was never answered. Raises ValueError for weights that are too large to be summed."""
    if sum(weights.values()) > MAX_WEIGHT:
        raise ValueError("weights come to at most 4 million in all")
    columns = {question: number for number, question in enumerate(evidence.questions)}
    missing = np.zeros((len(evidence.comparisons), 1), dtype=bool)
    taken = [columns.get(question) for question in questions.values()]

    def column(values: NDArray[Any], kind: Any) -> NDArray[Any]:
        found = [missing[:, 0] if i is None else values[:, i] for i in taken]
        return np.stack(found, axis=1).astype(kind) if found else np.zeros((len(missing), 0), dtype=kind)

    p1, p2 = column(evidence.p1, np.int32), column(evidence.p2, np.int32)
    present = column(evidence.present, np.bool_)
    readable = present & (column(evidence.mass, np.int32) >= units(rule.min_mass))
    far = np.abs(p1.astype(np.int64) + p2 - PROBABILITY) >= units(rule.min_margin)
    bears = readable & far & (agree(p1, p2) if rule.consistent else ~even(p1, p2))
    weighed = np.array([weights[name] for name in questions], dtype=np.int64)
    return Votes(
        tuple(evidence.comparisons), tuple(questions), tuple(questions.values()), weighed, rule,
        p1, p2, present, readable, bears,
    )  # fmt: skip


def agree(p1: NDArray[Any], p2: NDArray[Any]) -> Flags:
    """Where both orders name the same answer; an even order names none."""
    return ((p1 > HALF) & (p2 > HALF)) | ((p1 < HALF) & (p2 < HALF))


def even(p1: NDArray[Any], p2: NDArray[Any]) -> Flags:
    """Where both orders say exactly one half: the verdict of a judge that finds nothing to choose by. It abstains."""
    found: Flags = (p1 == HALF) & (p2 == HALF)
    return found


def units(value: float) -> int:
    """A fraction of the rule as the store's integers."""
    return round(value * PROBABILITY)


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
