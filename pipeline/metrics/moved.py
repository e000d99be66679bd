"""Whether a judge still answers as it did: the same questions asked again, and how far its probabilities moved.

A served model may change under its name. Asked again are the pairs on which it was least sure, because they move first;
a judge that is sure of everything shows less. Noise of batching moves a probability by some thousandths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from constitution.records import PROBABILITY, Verdict

TOLERANCE = 0.05  # mean absolute difference of probabilities, over both orders of all that was asked again


@dataclass(frozen=True)
class Moved:
    """`pairs` asked again; `by`: the mean absolute difference of their probabilities; `turned`: verdicts whose margin
    changed sides."""

    pairs: int
    by: float
    turned: int

    @property
    def drifted(self) -> bool:
        return self.pairs > 0 and self.by > TOLERANCE


def least_sure(verdicts: Sequence[Verdict], count: int) -> list[Verdict]:
    """Verdicts to ask again: those with the smallest margins."""
    return sorted(verdicts, key=lambda v: (abs(_margin(v)), v.comparison, v.question))[:count]


def moved(before: Sequence[Verdict], now: Sequence[Verdict]) -> Moved:
    """What changed between two answers to the same questions. Those that were answered once only are left out."""
    known = {(v.comparison, v.question): v for v in before}
    both = [(known[v.comparison, v.question], v) for v in now if (v.comparison, v.question) in known]
    apart = [abs(a - b) / PROBABILITY for old, new in both for a, b in ((old.p1, new.p1), (old.p2, new.p2))]
    turned = sum(_margin(old) * _margin(new) < 0 for old, new in both)
    return Moved(len(both), fmean(apart) if apart else 0.0, turned)


def _margin(verdict: Verdict) -> int:
    return verdict.p1 + verdict.p2 - PROBABILITY
