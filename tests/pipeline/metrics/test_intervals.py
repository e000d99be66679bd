"""Intervals: how often they hold what is true, exactly where it can be counted, and against scipy."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial

from pipeline.metrics import intervals


def cover(bounds: np.ndarray, rate: float) -> float:
    """How often the intervals [n + 1, 2], by count of n, hold the rate: exactly, not by drawing."""
    n = len(bounds) - 1
    held = (bounds[:, 0] <= rate + 1e-12) & (rate <= bounds[:, 1] + 1e-12)
    return float(binom.pmf(np.arange(n + 1), n, rate)[held].sum())


@pytest.mark.parametrize("n", [5, 10, 33, 100, 500])
def test_a_share_is_held_as_often_as_is_said_and_is_no_wider_than_the_exact_interval(n: int) -> None:
    bounds = np.array([intervals.binomial(count, n) for count in range(n + 1)])
    covered = [cover(bounds, rate) for rate in np.linspace(0.001, 0.999, 500)]
    assert np.mean(covered) >= 0.935 and min(covered) >= 0.9
    exact = np.array([binomtest(count, n).proportion_ci(method="exact") for count in range(n + 1)])
    assert np.all(bounds[:, 0] >= exact[:, 0] - 1e-12) and np.all(bounds[:, 1] <= exact[:, 1] + 1e-12)
    assert np.all(bounds[:, 1] > bounds[:, 0])
    zeros_and_ones = intervals.interval_of([1.0] * 3 + [0.0] * (n - 3))
    assert (zeros_and_ones.low, zeros_and_ones.high) == pytest.approx(tuple(bounds[3]))
    assert intervals.Share(3, n).interval == tuple(bounds[3])
    assert intervals.Share(0, 0).interval == (0.0, 1.0) and intervals.Share(0, 0).value is None


def test_a_lower_bound_is_exact_and_one_of_one_is_nothing() -> None:
    for count, of in ((1, 1), (5, 5), (6, 6), (80, 100)):
        exact = binomtest(count, of).proportion_ci(method="exact").low
        assert intervals.binomial_low(count, of) == pytest.approx(exact)
    assert intervals.binomial_low(0, 9) == 0 and intervals.binomial_low(5, 5) < 0.5 < intervals.binomial_low(6, 6)


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize(
    "shares", [(0.1, 0.85, 0.05), (0.4, 0.2, 0.4), (0.7, 0.25, 0.05), (0.02, 0.98, 0.0), (0.9, 0.1, 0)]
)
def test_a_win_rate_with_ties_is_held(n: int, shares: tuple[float, float, float]) -> None:
    """Every table of wins, ties and losses that n prompts can give, by how probable it is: exactly."""
    covered = width = 0.0
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            ties = n - wins - losses
            found = intervals.interval_of([1.0] * wins + [0.5] * ties + [0.0] * losses)
            weight = multinomial.pmf([wins, ties, losses], n, shares)
            covered += weight * (found.low - 1e-12 <= shares[0] + shares[1] / 2 <= found.high + 1e-12)
            width += weight * (found.high - found.low)
            assert found.high > found.low
            moved = intervals.interval_of([1.0] * wins + [0.0] * ties + [-1.0] * losses, least=-1)
            assert (moved.low, moved.high) == pytest.approx((2 * found.low - 1, 2 * found.high - 1))
    assert covered >= 0.93
    as_if_none_were_ties = intervals.proportion(shares[0] + shares[1] / 2, n)
    assert width <= as_if_none_were_ties.high - as_if_none_were_ties.low + 0.02


def test_a_change_of_nothing_at_all_has_a_width_and_one_of_lengths_has_no_interval() -> None:
    found = intervals.change_of([1.0, 0.0] * 50, [1.0, 0.0] * 50)
    assert found.mean == 0 and -0.04 < found.low < -0.02 and 0.02 < found.high < 0.04
    assert intervals.interval_of([0.0] * 100).high == pytest.approx(0.0295, abs=1e-3)  # and of a rate, 1 - .05^(1/100)
    assert isnan(intervals.mean_of([7.0] * 9).low) and isnan(intervals.mean_of([7.0]).low)
    drawn = np.random.default_rng(0).lognormal(3, 0.5, (500, 12))
    held = [i.low <= np.exp(3.125) <= i.high for i in map(intervals.mean_of, drawn.tolist())]
    assert np.mean(held) > 0.9
    with pytest.raises(ValueError, match="between 0 and 1"):
        intervals.interval_of([0.2, -0.2])


def test_values_on_one_prompt_count_together() -> None:
    """Four to each of 40 prompts, half of the prompts wholly true: as uncertain as 40 values, not as 160."""
    same = {bytes([n, m]): n % 2 == 0 for n in range(40) for m in range(4)}
    together = intervals.share_by_prompt(same, {id: id[:1] for id in same})
    apart = intervals.share_by_prompt(same, {id: id for id in same})
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.15)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * (0.25 / 160) ** 0.5, rel=0.15)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_share_by_prompt_is_held_on_few_prompts(share: float) -> None:
    """Labels of one prompt are nearly alike: as an interval of single labels it would hold half as often as it says."""
    rng, held = np.random.default_rng(1), []
    for _ in range(300):
        rates = rng.beta(share, 1 - share, 12)
        same = {bytes([n, m]): bool(rng.random() < rates[n]) for n in range(12) for m in range(1 + n % 4)}
        found = intervals.share_by_prompt(same, {id: id[:1] for id in same})
        held.append(found.low <= share <= found.high)
    assert np.mean(held) > 0.9


def test_of_no_values_nothing_is_known() -> None:
    for found in (intervals.interval_of([]), intervals.mean_of([]), intervals.share_by_prompt({}, {})):
        assert isnan(found.mean) and found.as_dict() == intervals.NOT_KNOWN
