"""People spot-check what the judge said: which pairs they are shown, in which order, and on which side.

A reviewer never sees the AI's verdict before answering, and the sides are shuffled by a hash of (reviewer, pair). Only
pairs drawn at random say how good the judge is; uncertain ones and order flips are for finding what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from constitution.records import PROBABILITY, Id, Label, make_id

Sampling = Literal["random", "uncertain", "flips"]


def shows_first_left(reviewer: str, comparison: Id) -> bool:
    """Whether a reviewer is shown the comparison's first answer as A: the same pair the same way each time."""
    return bool(make_id("side", reviewer=reviewer, comparison=comparison)[0] & 1)


def shuffled(comparisons: Sequence[Id], reviewer: str, seed: int) -> list[Id]:
    """The pairs by a hash of (seed, reviewer, pair): an order of each reviewer's own, that a new pair does not change.

    Ids are hashes already, so the first half of each is mixed with a key of the reviewer's (the finaliser of
    SplitMix64, Steele et al. 2014): for 60,000 pairs that takes a tenth of the time of hashing them one by one.
    """
    key = np.uint64(int.from_bytes(make_id("review", seed=seed, reviewer=reviewer)[:8], "big"))
    mixed = np.frombuffer(b"".join(comparisons), ">u8")[::2].astype(np.uint64) ^ key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return [comparisons[place] for place in np.argsort(mixed, kind="stable").tolist()]


def nearest_to_even(labels: Sequence[Label]) -> list[Id]:
    """The pairs whose label is nearest to even first; without those that could not be read."""
    known = [label for label in labels if label.state != "unreadable"]
    return [label.comparison for label in sorted(known, key=lambda label: abs(2 * label.p - PROBABILITY))]


def most_flips(comparisons: Sequence[Id], flips: Sequence[int]) -> list[Id]:
    """The pairs on which some principle's two orders name different answers, those with the most such principles first.
    `flips`: how many, by pair."""
    places = sorted((place for place, count in enumerate(flips) if count), key=lambda place: -flips[place])
    return [comparisons[place] for place in places]
