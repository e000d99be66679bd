"""The loss of one pair, as the trainers have it (`pipeline/trainers/soft_targets.py`), term by term.

DPO (arXiv 2305.18290, equation 7, with a soft target p): x = beta * (chosen - rejected), where `chosen` and `rejected`
are log pi - log ref of the two answers in nats, and the loss is -[p log sigmoid(x) + (1 - p) log sigmoid(-x)]. Its
derivative by x is sigmoid(x) - p; times beta, that is the weight that the pair has in the gradient (section 4 there).
A Bradley-Terry reward model has the same loss with x = r(chosen) - r(rejected): beta is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PairLoss:
    """`chosen`, `rejected`: implicit rewards. `weight`: 0 where the pair teaches nothing more, below 0 where it
    is taught already past its target."""

    chosen: float
    rejected: float
    margin: float
    probability: float
    loss: float
    weight: float


def pair_loss(chosen: float, rejected: float, beta: float, p: float = 1.0) -> PairLoss:
    """`chosen`, `rejected`: log pi - log ref in nats. Raises ValueError for a p outside 0 to 1, or a beta below 0."""
    if not (0 <= p <= 1 and beta >= 0 and all(map(math.isfinite, (chosen, rejected, beta)))):
        raise ValueError("p lies between 0 and 1, beta is 0 or more, and all are finite")
    x = beta * (chosen - rejected)
    loss = p * _softplus(-x) + (1 - p) * _softplus(x)
    probability = math.exp(-_softplus(-x))
    return PairLoss(beta * chosen, beta * rejected, x, probability, loss, beta * (p - probability))


def _softplus(x: float) -> float:
    """log(1 + exp(x)), for any x."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
