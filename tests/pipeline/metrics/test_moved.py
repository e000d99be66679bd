"""Drift, simulated: noise of batching passes, another model does not."""

from __future__ import annotations

import numpy as np

from benchmarks.trials import _answered, refused
from pipeline.metrics.moved import least_sure, moved


def test_noise_passes_and_another_model_does_not() -> None:
    assert sum(refused(0.05, 0.0, seed) for seed in range(300)) <= 3
    assert sum(refused(0.05, 1.0, seed) for seed in range(300)) >= 270


def test_what_is_asked_again_is_what_moves_first() -> None:
    verdicts = _answered(np.array([[4.0, 4.0], [0.1, -0.2], [-3.0, -3.0], [0.5, 0.5]]))
    assert [v.comparison[-1] for v in least_sure(verdicts, 2)] == [1, 3]
    found = moved(verdicts, _answered(np.array([[4.0, 4.0], [0.4, 0.1]])))
    assert found.pairs == 2 and found.turned == 1
    assert not moved([], []).drifted
