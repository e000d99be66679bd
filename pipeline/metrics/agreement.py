"""How far people agree with a judge: raw agreement, Cohen's kappa, Gwet's AC1, each with a 95% bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from constitution.records import Label, SpotAnswer
from pipeline.metrics.intervals import resampled

CATEGORIES = ("first", "second", "tie")


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
    table = np.array([[CATEGORIES.index(a), CATEGORIES.index(b)] for a, b in rated], dtype=int).reshape(-1, 2)
    return {
        "count": len(rated),
        "left_out": len(pairs) - len(rated),
        "raw": resampled(raw_agreement, table, seed),
        "kappa": resampled(cohen_kappa, table, seed),
        "ac1": resampled(gwet_ac1, table, seed),
    }


def raw_agreement(table: np.ndarray) -> float:
    """Share of rows [N, 2] whose two ratings are the same."""
    return float((table[:, 0] == table[:, 1]).mean())


def cohen_kappa(table: np.ndarray) -> float:
    """Cohen's kappa of ratings [N, 2]; NaN where only one category was ever used."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(table)) < 2:
        return float("nan")
    return float(cohen_kappa_score(table[:, 0], table[:, 1], labels=range(len(CATEGORIES))))


def gwet_ac1(table: np.ndarray) -> float:
    """Gwet's AC1 of ratings [N, 2] in q categories: (a - e) / (1 - e), e = sum of pi_k (1 - pi_k) / (q - 1), pi_k the
    mean share of category k over both raters."""
    q = len(CATEGORIES)
    pi = np.array([(table == k).mean() for k in range(q)])
    expected = float((pi * (1 - pi)).sum() / (q - 1))
    return (raw_agreement(table) - expected) / (1 - expected)
