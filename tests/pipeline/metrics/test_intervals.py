"""Intervals against scipy, published formulas in plain Python, and how often they hold what is true."""

from __future__ import annotations

from math import isnan, sqrt

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.metrics import intervals


def test_bootstrap_interval_covers_a_known_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        found = intervals.bootstrap(list(rng.binomial(1, 0.7, 200).astype(float)), seed=trial)
        covered += found.low <= 0.7 <= found.high
    assert covered >= 51  # 95% of 60 is 57; a binomial stays above 50 with probability 0.999


@pytest.mark.parametrize(("count", "n"), [(0, 1), (0, 16), (16, 16), (5, 16), (80, 100)])
def test_a_proportion_s_interval_is_wilson_s(count: int, n: int) -> None:
    found = intervals.proportion(count / n, n)
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6))


def test_a_difference_s_interval_is_newcombe_s() -> None:
    """Without correlation the squares of Wilson's half intervals are added; a perfect one cancels what is shared."""
    one, other = [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]  # phi 0
    found, each = intervals.difference(one, other), intervals.proportion(0.5, 4)
    half = sqrt((each.mean - each.low) ** 2 + (each.high - each.mean) ** 2)
    assert (found.mean, found.low, found.high) == (0, pytest.approx(-half), pytest.approx(half))
    alike = intervals.difference(one, one)
    assert (alike.mean, alike.low, alike.high) == (0, pytest.approx(0), pytest.approx(0))
    against = intervals.difference(one, [1 - x for x in one])  # phi -1: half intervals are added
    assert against.high == pytest.approx(2 * (each.high - each.mean))
    # All alike, sixteen times: the gap is 1, and its interval does not collapse.
    far = intervals.difference([1.0] * 16, [0.0] * 16)
    assert far.mean == 1 and far.high == 1 and 0.6 < far.low < 0.8


@pytest.mark.parametrize("table", [(36, 12, 2, 0), (14, 5, 0, 22), (0, 16, 0, 0), (3, 3, 3, 7)])
def test_a_difference_is_that_of_a_table_of_four(table: tuple[int, int, int, int]) -> None:
    """Newcombe's formula, written from counts: both, the first alone, the second alone, none."""
    both, first, second, none = table
    n = sum(table)
    found = intervals.difference(
        [1.0] * (both + first) + [0.0] * (second + none),
        [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * none,
    )
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = (binomtest(round(p * n), n).proportion_ci(method="wilson") for p in (p1, p2))
    margins = (both + first) * (second + none) * (both + second) * (first + none)
    phi = (both * none - first * second) / sqrt(margins) if margins else 0.0
    low = p1 - p2 - sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = p1 - p2 + sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    assert found.mean == pytest.approx(p1 - p2)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(min(1.0, high), abs=1e-6))


def test_a_share_is_scipy_s_to_the_last_digit() -> None:
    for of in (1, 7, 100, 1_637):
        for count in {0, 1, of // 3, of - 1, of}:
            expected = binomtest(count, of).proportion_ci(method="wilson")
            assert intervals.Share(count, of).interval == (expected.low, expected.high)
    assert intervals.Share(0, 0).interval == (0.0, 1.0) and intervals.Share(0, 0).value is None


def test_values_on_one_prompt_count_together() -> None:
    """Four to each of 40 prompts, half of the prompts wholly true: as uncertain as 40 values, not as 160."""
    same = {bytes([n, m]): n % 2 == 0 for n in range(40) for m in range(4)}
    together = intervals.share_by_prompt(same, {id: id[:1] for id in same})
    apart = intervals.share_by_prompt(same, {id: id for id in same})
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.15)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * (0.25 / 160) ** 0.5, rel=0.15)


def test_a_bootstrap_of_values_that_are_all_alike_is_a_point_and_of_none_is_not_a_number() -> None:
    assert intervals.bootstrap([0.5] * 9) == intervals.Interval(0.5, 0.5, 0.5)
    assert isnan(intervals.bootstrap([]).mean) and isnan(intervals.share_by_prompt({}, {}).mean)


def test_a_statistic_of_counts_leaves_out_resamples_without_a_value() -> None:
    def ratio(counts: np.ndarray) -> np.ndarray:
        return np.where(counts.min(axis=-1) > 0, counts.sum(axis=-1) / 4, np.nan)

    found = intervals.resampled({"ratio": ratio, "ones": lambda counts: counts[..., 1] / 2}, [0, 1], 2, 0)
    assert found["ratio"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert found["ones"] == {"mean": 0.5, "low": 0.0, "high": 1.0}
    none = {"mean": None, "low": None, "high": None}
    assert intervals.resampled({"ratio": ratio}, [], 2, 0) == {"ratio": none}
    assert intervals.resampled({"ratio": ratio}, [0, 0], 2, 0) == {"ratio": none}
