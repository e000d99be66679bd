"""Means and shares with their 95% intervals: the only place where an interval is made.

None has a width of zero: that nothing varied in a sample does not mean that nothing varies. A mean of values that have
bounds is known even then, by a binomial's limits; a mean of values without bounds is not, and has no interval. How
often each holds what is true, and how wide it is, `python -m benchmarks.coverage` prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import exp, inf, nan, sqrt
from typing import Any, TypeGuard

import numpy as np

from constitution.records import Id
from pipeline.metrics.words import percent

Z = 1.959963984540054  # two-sided 95%, one-sided 97.5%
Z_TWO = 1.96  # the same as tables print it: for signs that are looked at, not for intervals that are shown
TAIL = 0.025  # of each side
HALVINGS = 55  # of a bound that is searched for between 0 and 1: to 3e-17


@dataclass(frozen=True)
class Interval:
    """A figure and its 95% interval. `low` and `high` are NaN where it has none (`point`)."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Without NaN: what is not known is None."""
        every = {"mean": self.mean, "low": self.low, "high": self.high}
        return {name: value if known(value) else None for name, value in every.items()}


NOT_KNOWN: Mapping[str, float | None] = {
    "mean": None,
    "low": None,
    "high": None,
}  # `as_dict` of a figure that is not there


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a figure: neither None nor NaN."""
    return value is not None and value == value


def point(value: float) -> Interval:
    """A figure without an interval."""
    return Interval(value, nan, nan)


# --- shares ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def binomial(x: float, n: float) -> tuple[float, float]:
    """The mid-P interval of a share of `x` in `n`, n above 0 and x from 0 to n, whole or not (Lancaster, JASA 56, 1961;
    Berry and Armitage, The Statistician 44, 1995): the rates at which P(X > x) + P(X = x) / 2 is 2.5% and 97.5%.

    Each side misses at most twice 2.5%, so it covers at least 90% whatever the rate, on average about 95%, and it lies
    within the exact interval of Clopper and Pearson. Wilson's falls to 83% near the ends.
    """
    return (0.0 if x <= 0 else _at(x, n, TAIL)), (1.0 if x >= n else _at(x, n, 1 - TAIL))


def _at(x: float, n: float, tail: float) -> float:
    """The rate at which P(X > x) + P(X = x) / 2 of a binomial is `tail`; it rises with the rate."""
    from scipy.special import betainc

    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at_least = betainc(x, n - x + 1, middle) if x > 0 else 1.0
        more = betainc(x + 1, n - x, middle) if x < n else 0.0
        low, high = (middle, high) if (at_least + more) / 2 < tail else (low, middle)
    return (low + high) / 2


def binomial_low(count: int, of: int) -> float:
    """The exact one-sided 97.5% lower bound of a rate (Clopper and Pearson, 1934); 0 where nothing was seen. What has
    to lie above something, "better than chance", does so by chance in at most 2.5% of cases, however few were seen."""
    from scipy.special import betaincinv

    return float(betaincinv(count, of - count + 1, TAIL)) if count > 0 else 0.0


@dataclass(frozen=True)
class Share:
    """`count` of `of`, with a 95% interval (`binomial`; 0 to 1 where `of` is 0)."""

    count: int
    of: int

    def __str__(self) -> str:
        return percent(self.value, 0)

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None

    @property
    def low(self) -> float:
        return self.interval[0]

    @property
    def high(self) -> float:
        return self.interval[1]

    @cached_property
    def interval(self) -> tuple[float, float]:
        return binomial(self.count, self.of) if self.of else (0.0, 1.0)

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "of": self.of, "share": self.value, "low": self.low, "high": self.high}


# --- means over prompts ----------------------------------------------------------------------------------------------


def interval_of(values: Sequence[float], least: float = 0.0) -> Interval:
    """Mean of values between `least` and 1, one a prompt, with a 95% interval: wins (0, 1/2, 1), rates and shares with
    `least` 0; paired changes and effects with -1. NaN where there are none.

    The interval is `binomial` on the effective number of values, the one at which a binomial's mean would vary as much
    as theirs (Korn and Graubard, Survey Methodology 24, 1998). Their variance is taken with one more value at each end,
    as Bonett and Price do (J. Educ. Behav. Stat. 37, 2012), and is at most a binomial's: so zeros and ones have exactly
    `binomial`, ties narrow it, and values that are all alike do not make it collapse. Raises ValueError for a value
    outside its bounds.
    """
    if not len(values):
        return Interval(nan, nan, nan)
    sample = (np.asarray(values, dtype=float) - least) / (1 - least)
    if not np.all((sample >= 0) & (sample <= 1)):
        raise ValueError(f"a value does not lie between {least:g} and 1")
    n, mean = len(sample), float(sample.mean())
    if mean in (0.0, 1.0):
        low, high = binomial(mean * n, n)
    else:
        more = np.concatenate([sample, (0.0, 1.0)])
        effective = n * max(1.0, mean * (1 - mean) / float(more.var()))
        low, high = binomial(mean * effective, effective)
    return Interval(float(np.mean(values)), *(least + (1 - least) * end for end in (low, high)))


def proportion(mean: float, n: int) -> Interval:
    """A mean of n values between 0 and 1 that are not at hand, with the interval that it has if they are zeros and
    ones."""
    return Interval(mean, *binomial(mean * n, n))


def change_of(one: Sequence[float], other: Sequence[float]) -> Interval:
    """Mean of `one` minus `other`, values between 0 and 1 paired by prompt, with a 95% interval (`interval_of`)."""
    return interval_of(np.subtract(one, other).tolist(), least=-1.0)


def mean_of(values: Sequence[float], least: float = -inf) -> Interval:
    """Mean of values without bounds (tokens, nats, rewards), one a prompt, with Student's 95% interval, which does not
    reach below the `least` value that there can be. It has none where there are fewer than two, or where all are alike:
    nothing says then how far others might lie."""
    from scipy.special import stdtrit

    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean()) if len(sample) else nan
    if len(sample) < 2 or np.all(sample == sample[0]):
        return point(mean)
    half = float(stdtrit(len(sample) - 1, 1 - TAIL)) * float(sample.std(ddof=1)) / sqrt(len(sample))
    return Interval(mean, max(least, mean - half), mean + half)


def ratio_of(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Mean of `above` over mean of `below`, values of 0 and more paired by prompt, with a 95% interval: the delta
    method on the logarithm, with Student's t. NaN where the mean below is 0; no interval where `mean_of` has none."""
    from scipy.special import stdtrit

    one, other = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    if not len(one) or not other.mean():
        return Interval(nan, nan, nan)
    ratio, n = float(one.mean() / other.mean()), len(one)
    if n < 2 or not ratio:
        return point(ratio)
    parts = one / one.mean() - other / other.mean()
    half = float(stdtrit(n - 1, 1 - TAIL)) * sqrt(float((parts**2).sum()) / (n * (n - 1)))
    return Interval(ratio, ratio * exp(-half), ratio * exp(half)) if half else point(ratio)


def share_by_prompt(same: Mapping[Id, bool], prompts: Mapping[Id, Id]) -> Interval:
    """Share of comparisons that are true, with a 95% interval over whole prompts: labels on one prompt are alike.
    `prompts`: by comparison.

    `binomial` on the effective number of comparisons (Korn and Graubard, 1998, with their correction by Student's t
    for few prompts), the variance of the share that of a ratio of sums over prompts; where all are true, or none, the
    number of prompts.
    """
    from scipy.special import stdtrit

    by_prompt: dict[Id, list[bool]] = {}
    for comparison, value in same.items():
        by_prompt.setdefault(prompts[comparison], []).append(value)
    hits, sizes = (np.array([f(v) for v in by_prompt.values()], dtype=float) for f in (sum, len))
    if not len(sizes):
        return Interval(nan, nan, nan)
    n, of = len(sizes), float(sizes.sum())
    share = float(hits.sum() / of)
    if share in (0.0, 1.0) or n < 2:
        return Interval(share, *binomial(share * n, n))
    variance = n / (n - 1) * float(((hits - share * sizes) ** 2).sum()) / of**2
    few = (Z / float(stdtrit(n - 1, 1 - TAIL))) ** 2
    effective = min(of, few * share * (1 - share) / variance) if variance else of
    return Interval(share, *binomial(share * effective, effective))
