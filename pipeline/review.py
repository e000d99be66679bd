"""People spot-check what the judge said: which pairs they are shown, and how far they agree with it.

A reviewer never sees the AI's verdict before answering, and the sides are shuffled by a hash of (reviewer, pair). Only
pairs drawn at random say how good the judge is; uncertain ones and order flips are for finding what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from constitution.records import PROBABILITY, Id, Label, SpotAnswer, make_id

Sampling = Literal["random", "uncertain", "flips"]
CATEGORIES = ("first", "second", "tie")


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


def ai_answer(label: Label) -> str | None:
    """A label in the reviewers' words; None where it could not be read."""
    if label.state == "unreadable":
        return None
    first = label.preferred_first
    return "tie" if first is None else "first" if first else "second"


def agreement(pairs: Sequence[tuple[SpotAnswer, Label]], seed: int = 0) -> dict[str, Any]:
    """Raw agreement, Cohen's kappa and Gwet's AC1 of people with the AI, each with a 95% bootstrap interval.

    Skips and unreadable labels are left out and counted. AC1 (Gwet 2008, Br. J. Math. Stat. Psychol. 61, eq. 5-7)
    stays meaningful where one answer dominates, which kappa does not.
    """
    rated = [(answer, said) for answer, label in pairs if answer != "skip" and (said := ai_answer(label)) is not None]
    table = np.array([[CATEGORIES.index(a), CATEGORIES.index(b)] for a, b in rated], dtype=int).reshape(-1, 2)
    return {
        "count": len(rated),
        "left_out": len(pairs) - len(rated),
        "raw": _interval(raw_agreement, table, seed),
        "kappa": _interval(cohen_kappa, table, seed),
        "ac1": _interval(gwet_ac1, table, seed),
    }


def raw_agreement(table: np.ndarray) -> float:
    """Share of rows [N, 2] whose two ratings are the same."""
    return float((table[:, 0] == table[:, 1]).mean())


def cohen_kappa(table: np.ndarray) -> float:
    """Cohen's kappa of ratings [N, 2]; NaN where only one category was ever used."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(table)) < 2:
        return float("nan")
    return float(cohen_kappa_score(table[:, 0], table[:, 1], labels=range(len(CATEGORIES))))


def gwet_ac1(table: np.ndarray) -> float:
    """Gwet's AC1 of ratings [N, 2] in q categories: (a - e) / (1 - e), e = sum of pi_k (1 - pi_k) / (q - 1), pi_k the
    mean share of category k over both raters."""
    q = len(CATEGORIES)
    pi = np.array([(table == k).mean() for k in range(q)])
    expected = float((pi * (1 - pi)).sum() / (q - 1))
    return (raw_agreement(table) - expected) / (1 - expected)


def _interval(statistic: Callable[[np.ndarray], float], table: np.ndarray, seed: int) -> dict[str, float | None]:
    if not len(table):
        return {"mean": None, "low": None, "high": None}
    rng = np.random.default_rng(seed)
    draws = [statistic(table[rng.integers(0, len(table), len(table))]) for _ in range(1000)]
    finite = [d for d in draws if np.isfinite(d)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite else (float("nan"), float("nan"))
    return {name: _finite(value) for name, value in (("mean", statistic(table)), ("low", low), ("high", high))}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
