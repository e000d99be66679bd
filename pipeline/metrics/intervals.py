"""Means and shares with their 95% intervals: the only place where an interval is made.

Two bootstraps are here because they answer two questions: `bootstrap` is for a mean over prompts, `resampled` for any
statistic of counts, which some resamples may leave without a value. Both are percentile bootstraps with a seed: the
same values give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.records import Id

RESAMPLES = 2_000
Z = 1.959963984540054  # two-sided 95%, one-sided 97.5%
Z_TWO = 1.96  # the same as tables print it: for signs that are looked at, not for intervals that are shown
Z_SIX = 1.959964  # of `proportion`: figures of a scored answer were made with it, and they stay what they were


@dataclass(frozen=True)
class Interval:
    """A figure and its 95% interval. `low` and `high` are NaN where it has none (`point`)."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def point(value: float) -> Interval:
    """A figure without an interval."""
    return Interval(value, nan, nan)


# --- means over prompts ----------------------------------------------------------------------------------------------


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean with a 95% bootstrap interval (percentile, 2,000 resamples) over whole prompts."""
    from scipy import stats

    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean()) if len(sample) else nan
    if len(sample) < 2 or np.all(sample == sample[0]):
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (sample,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed), batch=200
    )
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def share_by_prompt(same: Mapping[Id, bool], prompts: Mapping[Id, Id], seed: int = 0) -> Interval:
    """Share of comparisons that are true, with a 95% bootstrap interval over whole prompts: labels on one prompt are
    alike. Where all are true, or none, Wilson's, as if each prompt had one. `prompts`: by comparison."""
    from scipy import stats

    by_prompt: dict[Id, list[bool]] = {}
    for comparison, value in same.items():
        by_prompt.setdefault(prompts[comparison], []).append(value)
    hits, sizes = (np.array([f(v) for v in by_prompt.values()], dtype=float) for f in (sum, len))
    if not len(sizes):
        return Interval(nan, nan, nan)
    share = float(hits.sum() / sizes.sum())
    if share in (0.0, 1.0) or len(sizes) < 2:
        return Interval(share, *Share(round(share * len(sizes)), len(sizes)).interval)

    def ratio(hits: NDArray[np.float64], sizes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = hits.sum(axis=axis) / sizes.sum(axis=axis)
        return found

    found = stats.bootstrap(
        (hits, sizes), ratio, n_resamples=RESAMPLES, paired=True, vectorized=True, method="percentile",
        rng=np.random.default_rng(seed), batch=200,
    )  # fmt: skip
    return Interval(share, float(found.confidence_interval.low), float(found.confidence_interval.high))


# --- any statistic of counts -----------------------------------------------------------------------------------------

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]


def resampled(
    statistics: Mapping[str, Statistic], kinds: Sequence[int], of: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """`mean`, `low`, `high` of each statistic of how many rows there are of each kind, by 1,000 resamples of the rows.

    `kinds`: of each row, from 0 to `of` - 1. A statistic makes values [...] of counts [..., of]; a resample on which it
    has no value (NaN) is left out. None is what could not be had, all three where there are no rows.
    """
    if not len(kinds):
        return {name: {"mean": None, "low": None, "high": None} for name in statistics}
    rows, rng = np.asarray(kinds), np.random.default_rng(seed)
    some = max(1, 1_000_000 // len(rows))  # resamples that are drawn at once
    sizes = [min(some, 1000 - start) for start in range(0, 1000, some)]
    draws = np.concatenate([_counts(rows[rng.integers(0, len(rows), (size, len(rows)))], of) for size in sizes])
    found = {}
    for name, statistic in statistics.items():
        mean, values = statistic(np.bincount(rows, minlength=of)), statistic(draws)
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (nan, nan)
        found[name] = {"mean": _finite(float(mean)), "low": _finite(low), "high": _finite(high)}
    return found


def _counts(drawn: np.ndarray, of: int) -> np.ndarray:
    """How many of each kind [R, of] there are in each row of `drawn` [R, N]."""
    apart = drawn + of * np.arange(len(drawn))[:, None]
    return np.bincount(apart.ravel(), minlength=of * len(drawn)).reshape(len(drawn), of)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# --- shares ----------------------------------------------------------------------------------------------------------


def wilson(mean: float, n: int, z: float = Z) -> tuple[float, float]:
    """Wilson's interval (1927) of a mean of n values between 0 and 1, n at least 1. It does not collapse where all are
    the same. Exact for zeros and ones; with halves among them it is too wide, because their variance is less."""
    width = 2 * (n + z**2)
    middle = (2 * n * mean + z**2) / width
    half = z / width * sqrt(4 * n * mean * (1 - mean) + z**2)
    return (0.0 if mean == 0 else middle - half), (1.0 if mean == 1 else middle + half)


@dataclass(frozen=True)
class Share:
    """`count` of `of`, with a 95% Wilson interval (0 to 1 where `of` is 0)."""

    count: int
    of: int

    def __str__(self) -> str:
        return "-" if self.value is None else f"{self.value:.0%}"

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
        return wilson(self.count / self.of, self.of) if self.of else (0.0, 1.0)

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "of": self.of, "share": self.value, "low": self.low, "high": self.high}


def proportion(mean: float, n: int) -> Interval:
    """A mean of n values between 0 and 1 with Wilson's 95% interval."""
    return Interval(mean, *wilson(mean, n, Z_SIX))


def difference(one: Sequence[float], other: Sequence[float]) -> Interval:
    """Mean of `one` minus mean of `other`, paired values between 0 and 1, with a 95% interval: Newcombe's for paired
    proportions (Statistics in Medicine 17, 1998, 2635-2650, method 8: Wilson's intervals squared and added, their
    correlation taken in), which does not collapse on few pairs that are all alike."""
    a, b = np.asarray(one, float), np.asarray(other, float)
    first, second = proportion(float(a.mean()), len(a)), proportion(float(b.mean()), len(b))
    phi = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    gap = first.mean - second.mean
    down = _joined(first.mean - first.low, second.high - second.mean, phi)
    up = _joined(first.high - first.mean, second.mean - second.low, phi)
    return Interval(gap, max(-1.0, gap - down), min(1.0, gap + up))


def _joined(one: float, other: float, correlation: float) -> float:
    return sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
