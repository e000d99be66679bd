"""How far people agree with a judge: raw agreement, Cohen's kappa, Gwet's AC1, each with a 95% interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any

import numpy as np

from constitution.records import Id, Label, SpotAnswer, SpotCheck
from pipeline.metrics.intervals import NOT_KNOWN, TAIL, Interval, known, point, proportion

CATEGORIES = ("first", "second", "tie")
Q = len(CATEGORIES)
# Two ratings more, one that agrees and one that does not, spread over the table: without them the variance is nothing
# where all agree, and the interval misses the truth in 30% of samples of ten (`python -m benchmarks.coverage`).
_TWO_MORE = np.eye(Q) / Q + (1 - np.eye(Q)) / (Q * (Q - 1))


def one_a_pair(checks: Iterable[SpotCheck]) -> list[SpotCheck]:
    """Of each comparison the first answer that says something, whoever gave it; the first one where none does.

    Several people's answers about one pair hang together, by the pair: taken as so many rows, an interval of 95% covers
    .70 to .86 where three or five people answered the same pairs (tests/pipeline/metrics/test_agreement.py).
    """
    found: dict[Id, SpotCheck] = {}
    for check in sorted(checks, key=lambda c: c.event):
        kept = found.get(check.comparison)
        if kept is None or (kept.answer not in CATEGORIES and check.answer in CATEGORIES):
            found[check.comparison] = check
    return list(found.values())


def ai_answer(label: Label) -> str | None:
    """A label in the reviewers' words; None where it could not be read."""
    if label.state == "unreadable":
        return None
    first = label.preferred_first
    return "tie" if first is None else "first" if first else "second"


def agreement(pairs: Sequence[tuple[SpotAnswer, Label]]) -> dict[str, Any]:
    """Raw agreement, Cohen's kappa and Gwet's AC1 of people with the AI, each with a 95% interval.

    Skips, unreadable labels and what no judge can say (neither is acceptable) are left out and counted. AC1 (Gwet
    2008, Br. J. Math. Stat. Psychol. 61, eq. 5-7) stays meaningful where one answer dominates, which kappa does not.
    """
    rated = [
        (answer, said) for answer, label in pairs if answer in CATEGORIES and (said := ai_answer(label)) is not None
    ]
    kinds = [CATEGORIES.index(a) * Q + CATEGORIES.index(b) for a, b in rated]
    counts = np.bincount(np.asarray(kinds, dtype=int), minlength=Q * Q)
    found: dict[str, dict[str, float | None]] = {name: dict(NOT_KNOWN) for name in ("raw", "kappa", "ac1")}
    if rated:
        found["raw"] = proportion(float(raw_agreement(counts)), len(rated)).as_dict()
        found["kappa"], found["ac1"] = kappa(counts).as_dict(), ac1(counts).as_dict()
    return {"count": len(rated), "left_out": len(pairs) - len(rated), **found}


def kappa(counts: np.ndarray) -> Interval:
    """Cohen's kappa of a table [q * q] with its 95% interval; NaN where only one category was ever used."""
    table = _table(counts) + _TWO_MORE
    row, column = (table.sum(axis=axis) / table.sum() for axis in (1, 0))
    return _interval(float(cohen_kappa(counts)), table, float(row @ column), (column[:, None] + row[None, :]) / 2)


def ac1(counts: np.ndarray) -> Interval:
    """Gwet's AC1 of a table [q * q] with its 95% interval."""
    table = _table(counts) + _TWO_MORE
    pi = (table.sum(axis=0) + table.sum(axis=1)) / (2 * table.sum())
    expected = float((pi * (1 - pi)).sum()) / (Q - 1)
    return _interval(float(gwet_ac1(counts)), table, expected, (1 - pi[:, None] / 2 - pi[None, :] / 2) / (Q - 1))


def _interval(mean: float, table: np.ndarray, expected: float, by_cell: np.ndarray) -> Interval:
    """The interval of (a - e) / (1 - e): Gwet's variance (2008, eq. 13; the delta method, which is it for kappa, too)
    with Student's t, one degree less than there are ratings. `expected`: e of `table`, `by_cell` [q, q]: the part of a
    rating of that cell in e. Within -1 and 1, and never without `mean`, which is of the table itself."""
    from scipy.special import stdtrit

    if not known(mean):
        return point(mean)
    n = float(table.sum())
    agreed = float(np.trace(table)) / n
    middle = (agreed - expected) / (1 - expected)
    parts = (np.eye(Q) - expected - 2 * (1 - middle) * (by_cell - expected)) / (1 - expected)
    variance = float((table * (parts - middle) ** 2).sum()) / (n * (n - 1))
    half = float(stdtrit(max(1.0, n - 3), 1 - TAIL)) * sqrt(variance)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Interval(mean, min(low, mean), max(high, mean))


def raw_agreement(counts: np.ndarray) -> np.ndarray:
    """Share of ratings that are the same. `counts` [..., q * q]: of each pair of categories, first rater's first."""
    table = _table(counts)
    same: np.ndarray = np.trace(table, axis1=-2, axis2=-1) / table.sum(axis=(-2, -1))
    return same


def cohen_kappa(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa, (a - e) / (1 - e), e = sum of the products of both raters' shares of a category; NaN where only
    one category was ever used."""
    table = _table(counts)
    one, other = (table.sum(axis=axis) / table.sum(axis=(-2, -1))[..., None] for axis in (-1, -2))
    expected = (one * other).sum(axis=-1)
    return _beyond_chance(raw_agreement(counts), expected)


def gwet_ac1(counts: np.ndarray) -> np.ndarray:
    """Gwet's AC1: (a - e) / (1 - e), e = sum of pi_k (1 - pi_k) / (q - 1), pi_k the mean share of category k over both
    raters."""
    table = _table(counts)
    pi = (table.sum(axis=-1) + table.sum(axis=-2)) / (2 * table.sum(axis=(-2, -1)))[..., None]
    expected = (pi * (1 - pi)).sum(axis=-1) / (Q - 1)
    return _beyond_chance(raw_agreement(counts), expected)


def _table(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(*counts.shape[:-1], Q, Q)


def _beyond_chance(agreed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 where chance alone agrees: no value
        found: np.ndarray = np.where(expected < 1, (agreed - expected) / (1 - expected), np.nan)
    return found
