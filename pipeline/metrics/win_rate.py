"""How often a judge prefers the answer after to the answer before; and the same without the effect of length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from constitution.records import Generation, Id, Label
from pipeline.metrics.attribution import FIRST, TIED, UNREADABLE, Codes
from pipeline.metrics.voting import Votes

Pairs = Sequence[tuple[Generation, Generation]]  # answers (before, after) to one prompt each


def wins(labels: Mapping[Id, Label], pairs: Pairs, ids: Sequence[Id | None]) -> list[float]:
    """For each (before, after) pair: 1 where the judge prefers after, 0 where before, 1/2 for a tie or equal texts.
    Pairs that could not be read are left out (NaN is not a tie)."""
    values = []
    for (before, after), ident in zip(pairs, ids, strict=True):
        if ident is None:
            values.append(0.5)
            continue
        label = labels[ident]
        if label.state == "unreadable":
            continue
        first = label.preferred_first
        values.append(0.5 if first is None else float(first == (after.content < before.content)))
    return values


def wins_by_outcome(votes: Votes, outcomes: Codes, pairs: Pairs, ids: Sequence[Id | None]) -> np.ndarray:
    """The same of outcomes (`attribution.labels`), but with a place for each pair: NaN where it could not be read."""
    row = {id: number for number, id in enumerate(votes.comparisons)}
    values = np.full(len(pairs), 0.5)
    for number, ((before, after), id) in enumerate(zip(pairs, ids, strict=True)):
        outcome = TIED if id is None else outcomes[row[id]]
        if outcome == UNREADABLE:
            values[number] = np.nan
        elif outcome != TIED:
            values[number] = float((outcome == FIRST) == (after.content < before.content))
    return values


def unreadable(values: Sequence[float], pairs: Pairs) -> float:
    """Share of the pairs that could not be read, `values` being what `wins` said of them."""
    return 1 - len(values) / max(1, len(pairs))


def length_controlled(labels: Mapping[Id, Label], pairs: Pairs, ids: Sequence[Id | None]) -> float | None:
    """Win rate with the effect of length taken out: a logistic regression of the win on tanh(length difference / its
    deviation), read at a difference of zero (Dubois et al. 2024, arXiv 2404.04475, without the per-prompt term).
    None where nothing could be read."""
    from sklearn.linear_model import LogisticRegression

    target, weight, difference = [], [], []
    for (before, after), ident in zip(pairs, ids, strict=True):
        value = wins(labels, [(before, after)], [ident])
        if value:
            for outcome, share in ((1, value[0]), (0, 1 - value[0])):
                if share:
                    target.append(outcome)
                    weight.append(share)
                    difference.append(len(after.text) - len(before.text))
    if len(set(target)) < 2:
        return float(target[0]) if target else None
    spread = float(np.std(difference)) or 1.0
    x = np.tanh(np.asarray(difference, dtype=float) / spread)[:, None]
    model = LogisticRegression(C=10.0).fit(x, target, sample_weight=weight)
    return float(1 / (1 + np.exp(-model.intercept_[0])))
