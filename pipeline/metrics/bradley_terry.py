"""Strengths of answers from choices between pairs (Bradley and Terry 1952), with how sure they are.

P(i before j) = sigmoid(r_i - r_j). The strengths have a normal prior around 0, without which one choice would send them
to infinity, and which fixes their sum: what is returned is the mode of the posterior, found by Newton's method, and the
standard deviations of the normal that has its curvature there (Laplace). A handful of choices leaves them wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR = 1.5  # standard deviation of a strength before anything was chosen


@dataclass(frozen=True)
class Strengths:
    """`mean`: [answers]; `deviation`: [answers], of each; `covariance`: [answers][answers]."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def before(self, one: int, other: int) -> float:
        """P(`one` is preferred to `other`), at the mode."""
        return 1 / (1 + math.exp(self.mean[other] - self.mean[one]))


def fit(answers: int, choices: Sequence[tuple[int, int]], prior: float = PRIOR) -> Strengths:
    """`choices`: (the better, the worse), by number. Raises ValueError for a number that is none."""
    import numpy as np

    if any(not (0 <= i < answers and 0 <= j < answers and i != j) for i, j in choices):
        raise ValueError("a choice is between two of the answers")
    strengths = np.zeros(answers)
    faced = np.zeros((len(choices), answers))
    for row, (better, worse) in enumerate(choices):
        faced[row, better], faced[row, worse] = 1.0, -1.0
    curvature = np.eye(answers) / prior**2
    for _ in range(100):  # convex, and at most quadratic beyond the prior: a few steps do
        wrong = 1 / (1 + np.exp(faced @ strengths))
        slope = faced.T @ wrong - strengths / prior**2
        curvature = faced.T @ (faced * (wrong * (1 - wrong))[:, None]) + np.eye(answers) / prior**2
        step = np.linalg.solve(curvature, slope)
        strengths = strengths + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-12:
            break
    covariance = np.linalg.inv(curvature)
    return Strengths(
        tuple(map(float, strengths)), tuple(map(float, np.sqrt(np.diag(covariance)))),
        tuple(tuple(map(float, row)) for row in covariance),
    )  # fmt: skip
