"""How much each principle moved a label, and what labels are with a principle left out.

A label is a weighted mean, so both are exact: p - 1/2 is the sum of w * s / (2 * sum of w) over the verdicts that vote,
one term a principle, and leaving a principle out takes its terms out of three sums. The arithmetic is that of the query
in `storage.labels`, integer for integer, on the votes of `voting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.records import PROBABILITY, Id, Label, LabelRule, LabelState
from pipeline.metrics.voting import HALF, Integers, Votes, units

OUTCOMES = ("first", "second", "tied", "unreadable")  # what a label says, as training reads it
FIRST, SECOND, TIED, UNREADABLE = range(4)
STATES: tuple[LabelState, ...] = ("decided", "decided", "tied", "unreadable")  # of an outcome
PARTS_OF_ROWS = 20_000  # comparisons at a time, so that what is reckoned with stays small beside the evidence

Codes: TypeAlias = NDArray[np.int8]  # indices of OUTCOMES


@dataclass(frozen=True)
class Sums:
    """Of each comparison: the weight that can be read, the weight that votes, and the sum of weight x s that votes;
    `total`: the weight of all principles."""

    readable: Integers
    bearing: Integers
    pull: Integers
    total: int


def sums(votes: Votes, weights: Integers | None = None) -> Sums:
    """`weights`: others than the constitution's, by principle."""
    weights = votes.weights if weights is None else weights
    n = len(votes.comparisons)
    pull = np.zeros(n, dtype=np.int64)
    for start in range(0, n, PARTS_OF_ROWS):
        rows = slice(start, start + PARTS_OF_ROWS)
        pull[rows] = np.where(votes.bears[rows], votes.s(rows=rows), 0) @ weights
    return Sums(votes.readable @ weights, votes.bears @ weights, pull, int(weights.sum()))


def without(votes: Votes, all_of_it: Sums, principle: int) -> Sums:
    """The sums with one principle left out."""
    weight = votes.weights[principle]
    return Sums(
        all_of_it.readable - votes.readable[:, principle] * weight,
        all_of_it.bearing - votes.bears[:, principle] * weight,
        all_of_it.pull - np.where(votes.bears[:, principle], votes.s(principle), 0) * weight,
        all_of_it.total - int(weight),
    )


def labels(sums: Sums, rule: LabelRule) -> tuple[Integers, Codes]:
    """p of each comparison (x 1e9, rounded down; one half where unreadable), and its outcome."""
    voted = (sums.bearing * PROBABILITY + sums.pull) // np.maximum(2 * sums.bearing, 1)
    voted = np.where(sums.bearing > 0, voted, HALF)
    unreadable = sums.readable * PROBABILITY < units(rule.min_readable) * sums.total
    tied = (sums.bearing == 0) | (np.abs(2 * voted - PROBABILITY) < units(rule.tie_margin)) | (voted == HALF)
    side = np.where(voted > HALF, FIRST, SECOND)
    outcome = np.where(unreadable, UNREADABLE, np.where(tied, TIED, side))
    return np.where(unreadable, HALF, voted), outcome.astype(np.int8)


def records(votes: Votes, sums: Sums) -> list[Label]:
    """The labels as the store would give them. A label that is exactly even is told from a tie by the rule alone."""
    p, outcomes = labels(sums, votes.rule)
    even = units(votes.rule.tie_margin) == 0
    return [
        Label(id, "decided" if even and at == TIED and heavy else STATES[at], int(value))
        for id, value, at, heavy in zip(votes.comparisons, p, outcomes, sums.bearing > 0, strict=True)
    ]


def left_out(votes: Votes) -> tuple[Codes, Codes]:
    """Outcomes [n] with every principle, and [n, k] with each principle left out."""
    everything = sums(votes)
    columns = [labels(without(votes, everything, i), votes.rule)[1] for i in range(len(votes.principles))]
    n = len(votes.comparisons)
    return labels(everything, votes.rule)[1], np.stack(columns, axis=1) if columns else np.zeros((n, 0), dtype=np.int8)


@dataclass(frozen=True)
class Flips:
    """What leaving a principle out does to labels: how many change from one outcome to another, and which."""

    principle: str
    labels: int
    changes: Mapping[tuple[str, str], int]
    comparisons: tuple[Id, ...]

    @property
    def count(self) -> int:
        return len(self.comparisons)


def flips(votes: Votes) -> list[Flips]:
    """For each principle."""
    before, after = left_out(votes)
    found = []
    for i, name in enumerate(votes.principles):
        changed = np.flatnonzero(before != after[:, i])
        pairs, counts = np.unique(before[changed] * len(OUTCOMES) + after[changed, i], return_counts=True)
        changes = {
            (OUTCOMES[pair // len(OUTCOMES)], OUTCOMES[pair % len(OUTCOMES)]): int(count)
            for pair, count in zip(pairs, counts, strict=True)
        }
        found.append(Flips(name, len(before), changes, tuple(votes.comparisons[row] for row in changed)))
    return found


# How a verdict stands, as JSON says it; people read `in_words`.
Standing: TypeAlias = Literal["bears", "does not bear", "unreadable", "not judged"]


@dataclass(frozen=True)
class Part:
    """A principle's part in one label. `moved`: what it adds to p, of p - 1/2; `without`: the outcome without it."""

    principle: str
    weight: int
    standing: Standing
    s: int | None  # None where there is no verdict
    moved: Fraction
    without: str


@dataclass(frozen=True)
class Account:
    """One label, term by term. The parts' `moved` add up to p - 1/2 exactly, before p is rounded down to 1e-9; an
    unreadable label has terms, too, but they make no label."""

    label: Label
    outcome: str
    parts: tuple[Part, ...]


def account(votes: Votes, row: int) -> Account:
    """The label of the comparison in that row, as the sum of its principles' parts."""
    one = votes.part(slice(row, row + 1))
    everything = sums(one)
    outcome, rest = left_out(one)
    bearing, s = int(everything.bearing[0]), one.s()[0]
    parts = []
    for i, name in enumerate(one.principles):
        present, readable, bears = (bool(flag[0, i]) for flag in (one.present, one.readable, one.bears))
        standing: Standing = (
            "bears" if bears else "does not bear" if readable else "unreadable" if present else "not judged"
        )
        weight = int(one.weights[i])
        moved = Fraction(weight * int(s[i]), 2 * bearing * PROBABILITY) if bears and bearing else Fraction(0)
        parts.append(Part(name, weight, standing, int(s[i]) if present else None, moved, OUTCOMES[rest[0, i]]))
    return Account(records(one, everything)[0], OUTCOMES[outcome[0]], tuple(parts))
