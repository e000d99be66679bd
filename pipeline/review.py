"""People spot-check what the judge said: which pairs they are shown, in which order, and on which side.

A reviewer never sees the AI's verdict before answering, and the sides are shuffled by a hash of (reviewer, pair). Only
pairs drawn at random say how good the judge is; uncertain ones and order flips are for finding what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from constitution.records import PROBABILITY, Id, Label, Verdict, make_id

Sampling = Literal["random", "uncertain", "flips"]


def shows_first_left(reviewer: str, comparison: Id) -> bool:
    """Whether a reviewer is shown the comparison's first answer as A: the same pair the same way each time."""
    return bool(make_id("side", reviewer=reviewer, comparison=comparison)[0] & 1)


def order(
    sampling: Sampling, comparisons: Sequence[Id], labels: Mapping[Id, Label], verdicts: Sequence[Verdict], seed: int
) -> list[Id]:
    """The pairs in the order in which reviewers are shown them.

    `random`: by a hash of (seed, pair). `uncertain`: nearest to even first. `flips`: only pairs on which some
    principle's two orders name different answers, those with the most flips first.
    """

    def shuffled(c: Id) -> bytes:
        return make_id("review", seed=seed, comparison=c)

    if sampling == "random":
        return sorted(comparisons, key=shuffled)
    if sampling == "uncertain":
        known = [c for c in comparisons if labels[c].state != "unreadable"]
        return sorted(known, key=lambda c: (abs(2 * labels[c].p - PROBABILITY), shuffled(c)))
    flips: dict[Id, int] = {}
    for v in verdicts:
        if (2 * v.p1 > PROBABILITY) != (2 * v.p2 > PROBABILITY):
            flips[v.comparison] = flips.get(v.comparison, 0) + 1
    return sorted((c for c in comparisons if c in flips), key=lambda c: (-flips[c], shuffled(c)))
