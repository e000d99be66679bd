"""How good and how honest predictions about pairs are, against the probabilities they were labelled with.

Rows are turned so that `chosen` is the labelled better, so a prediction is looked at from the side it favours:
confidence = max(q, 1 - q) with q = sigmoid(margin), and agreement = the label's probability of that side. That equals
counting every pair both ways round, and does not depend on which answer is written first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TEMPERATURES = 100.0
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


def fit_temperature(margins: Sequence[float], targets: Sequence[float]) -> float:
    """The T in [1 / TEMPERATURES, TEMPERATURES] whose sigmoid(margin / T) has the lowest cross-entropy against p
    (temperature scaling, Guo et al. 2017, arXiv 1706.04599): above 1 for a model that is too sure of itself.

    One number changes no rank and no sign. Cross-entropy is convex in 1 / T, so it has one lowest point; pairs that
    all agree with their labels for certain have it at the lower bound. Raises ValueError as `calibrate` does.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    if not margins or len(margins) != len(targets):
        raise ValueError(f"{len(margins)} margins and {len(targets)} targets")
    m, p = np.asarray(margins, dtype=float), np.asarray(targets, dtype=float)
    if not m.any():
        return 1.0  # all temperatures are alike

    def cross_entropy(log_t: float) -> float:
        x = m / np.exp(log_t)
        return float(np.mean(p * np.logaddexp(0, -x) + (1 - p) * np.logaddexp(0, x)))

    bound = math.log(TEMPERATURES)
    found = minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line of y on x; 0 where x does not vary."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = math.fsum((a - mean_x) ** 2 for a in x)
    return math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def _softplus(x: float) -> float:
    """log(1 + e^x) = -log sigmoid(-x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
