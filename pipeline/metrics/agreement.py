"""How far people agree with a judge: raw agreement, Cohen's kappa, Gwet's AC1, each with a 95% bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from constitution.records import Label, SpotAnswer
from pipeline.metrics.intervals import resampled

CATEGORIES = ("first", "second", "tie")
Q = len(CATEGORIES)


def ai_answer(label: Label) -> str | None:
    """A label in the reviewers' words; None where it could not be read."""
    if label.state == "unreadable":
        return None
    first = label.preferred_first
    return "tie" if first is None else "first" if first else "second"


def agreement(pairs: Sequence[tuple[SpotAnswer, Label]], seed: int = 0) -> dict[str, Any]:
    """Raw agreement, Cohen's kappa and Gwet's AC1 of people with the AI, each with a 95% bootstrap interval.

    Skips and unreadable labels are left out and counted. AC1 (Gwet 2008, Br. J. Math. Stat. Psychol. 61, eq. 5-7)
    stays meaningful where one answer dominates, which kappa does not.
    """
    rated = [(answer, said) for answer, label in pairs if answer != "skip" and (said := ai_answer(label)) is not None]
    kinds = [CATEGORIES.index(a) * Q + CATEGORIES.index(b) for a, b in rated]
    statistics = {"raw": raw_agreement, "kappa": cohen_kappa, "ac1": gwet_ac1}
    return {"count": len(rated), "left_out": len(pairs) - len(rated), **resampled(statistics, kinds, Q * Q, seed)}


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
