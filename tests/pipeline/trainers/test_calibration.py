"""Calibration figures against hand-computed ones and against scikit-learn."""

from __future__ import annotations

import math
import random

import pytest
from sklearn.metrics import log_loss

from pipeline.trainers.calibration import TEMPERATURES, calibrate, fit_temperature, slope


def logit(q: float) -> float:
    return math.log(q / (1 - q))


def test_three_pairs_by_hand() -> None:
    # Confidences .92 and .93 share the bin [.9, .95), agreements 1 and .6; confidence .62 (against chosen) is alone.
    figures = calibrate([logit(0.92), logit(0.93), logit(0.38)], [1.0, 0.6, 0.7])
    assert figures.accuracy == pytest.approx(2 / 3)
    assert figures.bins == [
        (pytest.approx(0.62), pytest.approx(0.3), 1),
        (pytest.approx(0.925), pytest.approx(0.8), 2),
    ]
    assert figures.ece == pytest.approx((1 * 0.32 + 2 * 0.125) / 3)


def test_a_predictor_that_says_the_labels_is_calibrated_and_its_cross_entropy_is_the_entropy() -> None:
    targets = [0.55, 0.7, 0.9]
    figures = calibrate([logit(p) for p in targets], targets)
    assert figures.ece == pytest.approx(0, abs=1e-9)
    assert figures.cross_entropy == pytest.approx(
        sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in targets) / 3
    )


def test_hard_labels_agree_with_scikit_learn() -> None:
    draw = random.Random(0)
    margins = [draw.gauss(0.5, 2) for _ in range(200)]
    expected = log_loss([1] * 200, [1 / (1 + math.exp(-m)) for m in margins], labels=[0, 1])
    assert calibrate(margins, [1.0] * 200).cross_entropy == pytest.approx(expected)


def test_even_pairs_have_no_right_answer_and_a_margin_of_zero_is_half_right() -> None:
    assert calibrate([1.0], [0.5]).accuracy is None
    assert calibrate([0.0, 3.0], [0.9, 0.9]).accuracy == 0.75


def test_extreme_margins_stay_finite() -> None:
    figures = calibrate([1e4, -1e4], [1.0, 1.0])
    assert figures.cross_entropy == pytest.approx(5e3)
    assert figures.accuracy == 0.5


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="0 margins"):
        calibrate([], [])


# --- temperature and slope ---


def test_the_temperature_of_a_predictor_that_is_too_sure_is_found() -> None:
    targets = [0.55, 0.7, 0.9, 0.99, 0.3]
    for wrong in (0.25, 1.0, 3.0):
        margins = [wrong * logit(p) for p in targets]
        found = fit_temperature(margins, targets)
        assert found == pytest.approx(wrong, rel=1e-5)
        assert calibrate([m / found for m in margins], targets).ece == pytest.approx(0, abs=1e-6)


def test_three_of_four_right_by_equal_margins_is_a_known_temperature() -> None:
    # sigmoid(2 / T) = 3 / 4, so T = 2 / log 3
    assert fit_temperature([2.0, 2.0, 2.0, -2.0], [1.0] * 4) == pytest.approx(2 / math.log(3), rel=1e-5)


def test_a_temperature_stays_within_its_bounds_and_is_one_where_it_means_nothing() -> None:
    assert fit_temperature([1.0, 2.0], [1.0, 1.0]) == pytest.approx(1 / TEMPERATURES, rel=1e-3)
    assert fit_temperature([-1.0, -2.0], [1.0, 1.0]) == pytest.approx(TEMPERATURES, rel=1e-3)
    assert fit_temperature([0.0, 0.0], [1.0, 0.5]) == 1.0
    with pytest.raises(ValueError):
        fit_temperature([], [])


def test_the_slope_is_that_of_the_least_squares_line() -> None:
    assert slope([1, 2, 3, 4], [1.0, 3.0, 2.0, 5.0]) == pytest.approx(1.1)
    assert slope([5, 5, 5], [1.0, 2.0, 3.0]) == 0.0
