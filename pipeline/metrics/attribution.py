"""How much each principle moved a label, and what labels are with a principle left out.

A label is a weighted mean, so both are exact: p - 1/2 is the sum of w * s / (2 * sum of w) over the verdicts that vote
(where there are tiers: in the tier that the label is from), one term a principle, and leaving a principle out takes its
terms out of the sums. The arithmetic is that of the query in `storage.labels`, `constitution.tally`, on the votes of
`voting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution import tally
from constitution.records import PROBABILITY, Id, Label, LabelRule
from constitution.tally import HALF, HARD, Integers, Layer, Panel, Sums
from pipeline.metrics.voting import Votes

OUTCOMES = ("first", "second", "tied", "unreadable")  # what a label says, as training reads it
FIRST, SECOND, TIED, UNREADABLE = range(4)
PARTS_OF_ROWS = 20_000  # comparisons at a time, so that what is reckoned with stays small beside the evidence

Codes: TypeAlias = NDArray[np.int8]  # indices of OUTCOMES


def sums(votes: Votes, panel: Panel | None = None) -> Sums:
    """`panel`: other voices than the votes', by principle."""
    panel = votes.shared(panel)
    parts = []
    for start in range(0, max(1, len(votes.comparisons)), PARTS_OF_ROWS):
        rows = slice(start, start + PARTS_OF_ROWS)
        flags = (votes.present[rows].T, votes.readable[rows].T, votes.bears[rows].T)
        parts.append(Sums.of(panel, *flags, votes.s(rows=rows).T, votes.rule))
    return Sums.joined(parts)


def without(votes: Votes, all_of_it: Sums, principle: int) -> Sums:
    """The sums with one principle left out."""
    panel, own = votes.shared(), votes.panel
    asked = votes.questions[principle]
    twins = [i for i, question in enumerate(votes.questions) if question == asked and i != principle]
    if any(own.tiers[i] != own.tiers[principle] or own.hard[i] != own.hard[principle] for i in twins):
        # its words may count in another tier, or be no constraint, without it
        return sums(votes.part(principles=[p for i, p in enumerate(votes.principles) if i != principle]))
    weight, s, bears = panel.weights[principle], votes.s(principle), votes.bears[:, principle]
    hard, tiers, dark = all_of_it.hard, list(all_of_it.tiers), all_of_it.dark
    place = int(panel.places[principle])
    if place == HARD:
        loud = bears & tally.speaks(s, votes.rule)
        hard = (hard[0] - _part(weight, loud & (s > 0), s), hard[1] - _part(weight, loud & (s < 0), s))
        dark = dark - (votes.present & ~votes.readable)[:, principle] * weight
    else:
        tiers[place] = tiers[place] - _part(weight, bears, s)
    return replace(
        all_of_it,
        present=all_of_it.present - votes.present[:, principle] * weight,
        readable=all_of_it.readable - votes.readable[:, principle] * weight,
        total=all_of_it.total - int(weight),
        hard=hard,
        tiers=tuple(tiers),
        dark=dark,
    )


def _part(weight: int, votes: NDArray[np.bool_], s: Integers) -> Layer:
    return Layer(votes * weight, np.where(votes, s, 0) * weight)


def labels(sums: Sums, rule: LabelRule) -> tuple[Integers, Codes]:
    """p of each comparison (x 1e9, rounded down; one half where unreadable), and its outcome."""
    states, p = sums.label(rule)
    side = np.where(p > HALF, FIRST, SECOND)
    outcome = np.where((states == tally.TIED) | (p == HALF), TIED, side)
    return p, np.where(states == tally.UNREADABLE, UNREADABLE, outcome).astype(np.int8)


def records(votes: Votes, sums: Sums) -> list[Label]:
    """The labels as the store gives them."""
    states, p = sums.label(votes.rule)
    return [
        Label(id, tally.STATES[state], int(value), bool(against) and state == tally.TIED)
        for id, state, value, against in zip(votes.comparisons, states, p, sums.conflict, strict=True)
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
    """A principle's part in one label. `moved`: what it adds to p, of p - 1/2, and nothing where another tier decided;
    `without`: the outcome without it."""

    principle: str
    weight: int
    standing: Standing
    s: int | None  # None where there is no verdict
    moved: Fraction
    without: str
    tier: int = 0
    hard: bool = False


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
    s, places = one.s()[0], one.shared().places
    layer = int(everything.resolve(one.rule)[2][0])
    loud = tally.speaks(s, one.rule)
    if layer == HARD:
        bearing = int((everything.hard[0] + everything.hard[1]).bearing[0])
    else:
        bearing = int(everything.tiers[layer].bearing[0]) if layer >= 0 else 0
    parts = []
    for i, name in enumerate(one.principles):
        present, readable, bears = (bool(flag[0, i]) for flag in (one.present, one.readable, one.bears))
        standing: Standing = (
            "bears" if bears else "does not bear" if readable else "unreadable" if present else "not judged"
        )
        weight = int(one.weights[i])
        counts = bears and bearing and places[i] == layer and (layer != HARD or loud[i])
        moved = Fraction(weight * int(s[i]), 2 * bearing * PROBABILITY) if counts else Fraction(0)
        tier, hard = int(one.panel.tiers[i]), bool(one.panel.hard[i])
        of = OUTCOMES[rest[0, i]]
        parts.append(Part(name, weight, standing, int(s[i]) if present else None, moved, of, tier, hard))
    return Account(records(one, everything)[0], OUTCOMES[outcome[0]], tuple(parts))
