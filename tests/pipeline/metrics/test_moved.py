"""Drift, simulated: noise of batching passes, another model does not."""

from __future__ import annotations

import numpy as np

from constitution.records import PROBABILITY, Verdict
from pipeline.metrics.moved import least_sure, moved


def answered(log_odds: np.ndarray) -> list[Verdict]:
    """Verdicts of pairs by the log-odds of both orders [N, 2]."""
    p = np.round(PROBABILITY / (1 + np.exp(-log_odds))).astype(int)
    full = PROBABILITY
    return [Verdict(b"q" * 16, n.to_bytes(16, "big"), int(a), int(b), full, full) for n, (a, b) in enumerate(p)]


def drifted(noise: float, shift: float, seed: int) -> bool:
    """A judge of 40 pairs, four asked again, with noise in the log-odds and, of another model, other log-odds."""
    rng = np.random.default_rng(seed)
    was = rng.normal(0, 2, (40, 2))
    now = was + rng.normal(0, noise, was.shape) + rng.normal(0, shift, was.shape)
    chosen = least_sure(answered(was), 4)
    said = {v.comparison: v for v in answered(now)}
    return moved(chosen, [said[v.comparison] for v in chosen]).drifted


def test_noise_passes_and_another_model_does_not() -> None:
    assert sum(drifted(0.05, 0.0, seed) for seed in range(300)) <= 3
    assert sum(drifted(0.05, 1.0, seed) for seed in range(300)) >= 270


def test_what_is_asked_again_is_what_moves_first() -> None:
    verdicts = answered(np.array([[4.0, 4.0], [0.1, -0.2], [-3.0, -3.0], [0.5, 0.5]]))
    assert [v.comparison[-1] for v in least_sure(verdicts, 2)] == [1, 3]
    found = moved(verdicts, answered(np.array([[4.0, 4.0], [0.4, 0.1]])))
    assert found.pairs == 2 and found.turned == 1
    assert not moved([], []).drifted
