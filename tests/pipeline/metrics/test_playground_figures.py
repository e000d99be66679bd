"""The playground's figures against references: the trainers' own loss, scipy's optimiser, and counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.metrics import best_of, bradley_terry
from pipeline.metrics.pair_loss import pair_loss


@pytest.mark.parametrize("p", [1.0, 0.7, 0.5, 0.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 2.0])
def test_the_loss_and_its_weight_are_those_of_the_trainers(beta: float, p: float) -> None:
    import torch

    from pipeline.trainers.soft_targets import soft_cross_entropy

    for chosen, rejected in ((2.0, -1.0), (-3.5, 4.0), (0.0, 0.0), (500.0, -500.0), (-500.0, 500.0)):
        gap = torch.tensor(chosen - rejected, dtype=torch.float64, requires_grad=True)
        loss = soft_cross_entropy(beta * gap, torch.tensor(p, dtype=torch.float64))
        loss.backward()
        found = pair_loss(chosen, rejected, beta, p)
        assert found.loss == pytest.approx(float(loss.detach()), abs=1e-6)
        assert gap.grad is not None and found.weight == pytest.approx(-float(gap.grad), abs=1e-6)


@pytest.mark.parametrize("beta, p", [(-1.0, 1.0), (1.0, 1.5), (math.nan, 0.5), (math.inf, 0.5)])
def test_what_is_no_pair_is_refused(beta: float, p: float) -> None:
    with pytest.raises(ValueError):
        pair_loss(1.0, 0.0, beta, p)


def test_a_fit_is_the_mode_that_scipy_finds_and_its_spread_the_curvature_there() -> None:
    from scipy.optimize import minimize

    choices = [(0, 1), (0, 2), (1, 2), (2, 1), (0, 3), (0, 1)]

    def lost(r: np.ndarray) -> float:
        fits = sum(np.logaddexp(0, r[j] - r[i]) for i, j in choices)
        return float(fits + (r**2).sum() / (2 * bradley_terry.PRIOR**2))

    found = bradley_terry.fit(4, choices)
    reference = minimize(lost, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    assert found.mean == pytest.approx(reference.x, abs=1e-5)
    step, eye = 1e-3, np.eye(4)
    mode = np.array(found.mean)
    curvature = np.array(
        [
            [
                (lost(mode + step * (a + b)) - lost(mode + step * (a - b)) - lost(mode - step * (a - b))
                 + lost(mode - step * (a + b))) / (4 * step**2)
                for b in eye
            ]
            for a in eye
        ]
    )  # fmt: skip
    assert np.array(found.covariance) == pytest.approx(np.linalg.inv(curvature), abs=1e-4)


def test_without_a_choice_a_fit_says_the_prior_and_one_choice_is_not_certainty() -> None:
    nothing = bradley_terry.fit(3, [])
    assert nothing.mean == (0, 0, 0) and nothing.deviation == pytest.approx([bradley_terry.PRIOR] * 3)
    one = bradley_terry.fit(3, [(1, 0)])
    assert 0.5 < one.before(1, 0) < 0.9 and one.mean[2] == 0
    with pytest.raises(ValueError):
        bradley_terry.fit(2, [(0, 2)])


def test_the_intervals_of_a_fit_hold_the_strengths_that_were_drawn_from_its_prior() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        true = rng.normal(0, bradley_terry.PRIOR, 4)
        choices = []
        for _ in range(12):
            i, j = map(int, rng.choice(4, 2, replace=False))
            choices.append((i, j) if rng.random() < 1 / (1 + math.exp(true[j] - true[i])) else (j, i))
        found = bradley_terry.fit(4, choices)
        held += [abs(t - m) <= 1.96 * d for t, m, d in zip(true, found.mean, found.deviation, strict=True)]
    assert 0.92 <= np.mean(held) <= 0.98  # 1,200 of them, four a draw


def test_signals_are_counted_and_the_heaviest_picks() -> None:
    texts = ["Great question! You are right.", "one two three one two three", "Quite another thing altogether"]
    found = best_of.counted(texts)
    assert [round(one["length"]) for one in found] == [5, 6, 4]
    assert found[0]["flattery"] >= 1 and found[1]["flattery"] == 0
    assert found[1]["coherence"] == 3 / 4 and found[2]["coherence"] == 1
    assert best_of.kl_bound(1) == 0 and best_of.kl_bound(4) == pytest.approx(math.log(4) - 0.75)
    by_length, short, unknown = (best_of.scores([found], {name: w})[0] for name, w in
                                 (("length", 1.0), ("length", -1.0), ("judge", 1.0)))  # fmt: skip
    assert by_length.index(max(by_length)) == 1 and short.index(max(short)) == 2 and unknown == [0, 0, 0]
