"""How good and how honest predictions about pairs are, against the probabilities they were labelled with.

Rows are turned so that `chosen` is the labelled better, so a prediction is looked at from the side it favours:
confidence = max(q, 1 - q) with q = sigmoid(margin), and agreement = the label's probability of that side. That equals
counting every pair both ways round, and does not depend on which answer is written first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10  # of equal width over confidences from 0.5 to 1


@dataclass(frozen=True)
class Calibration:
    """`accuracy`: how often the favoured answer is the labelled one, over pairs whose p is not 0.5 (None where there
    is none; a margin of 0 counts a half). `cross_entropy`: in nats, against p. `ece`: mean of |confidence -
    agreement| over the bins, weighted by their pairs. `bins`: (mean confidence, mean agreement, pairs), no empty one.
    """

    pairs: int
    accuracy: float | None
    cross_entropy: float
    ece: float
    bins: list[tuple[float, float, int]]


def calibrate(margins: Sequence[float], targets: Sequence[float]) -> Calibration:
    """Margins (logits that `chosen` is better) against p. Raises ValueError where there are none, or not as many."""
    if not margins or len(margins) != len(targets):
        raise ValueError(f"{len(margins)} margins and {len(targets)} targets")
    pairs = list(zip(margins, targets, strict=True))
    decided = [0.5 if margin == 0 else float((margin > 0) == (p > 0.5)) for margin, p in pairs if p != 0.5]
    losses = [p * _softplus(-margin) + (1 - p) * _softplus(margin) for margin, p in pairs]
    members: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for margin, p in pairs:
        confidence = 1 / (1 + math.exp(-abs(margin)))
        agreement = p if margin >= 0 else 1 - p
        members[min(BINS - 1, int((confidence - 0.5) * 2 * BINS))].append((confidence, agreement))
    bins = [
        (sum(c for c, _ in inside) / len(inside), sum(a for _, a in inside) / len(inside), len(inside))
        for inside in members
        if inside
    ]
    return Calibration(
        pairs=len(margins),
        accuracy=sum(decided) / len(decided) if decided else None,
        cross_entropy=sum(losses) / len(losses),
        ece=sum(abs(c - a) * n for c, a, n in bins) / len(margins),
        bins=bins,
    )


def _softplus(x: float) -> float:
    """log(1 + e^x) = -log sigmoid(-x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
