"""How often a judge prefers the answer after to the answer before; and the same without the effect of length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from constitution.records import Generation, Id, Label
from pipeline.metrics.attribution import FIRST, TIED, UNREADABLE, Codes
from pipeline.metrics.intervals import NOT_KNOWN, TAIL, Interval, interval_of
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


def by_prompt(labels: Mapping[Id, Label], pairs: Pairs, ids: Sequence[Id | None]) -> dict[Id, float]:
    """The same by prompt, of the pairs that could be read: what two models that were measured on the same prompts are
    told apart by."""
    found = {}
    for pair, ident in zip(pairs, ids, strict=True):
        for value in wins(labels, [pair], [ident]):
            found[pair[0].prompt] = value
    return found


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


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """What `wins` says, in one: `mean`, `low` and `high` of the win rate, a tie being a half, and of how many `prompts`
    on which shares the answer after is `better`, `worse`, or there is `no_difference`."""
    n = len(values)
    shares = {name: sum(v == value for v in values) / n if n else None for name, value in _OUTCOMES.items()}
    return {**interval_of(values).as_dict(), **shares, "prompts": n}


_OUTCOMES = {"better": 1.0, "worse": 0.0, "no_difference": 0.5}


@dataclass(frozen=True)
class Controlled:
    """A win rate without the effect of length: None where it cannot be told, and then `why` not."""

    interval: Interval | None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        found = self.interval.as_dict() if self.interval else dict(NOT_KNOWN)
        return {**found, "why": self.why}


EACH_SIDE = 5  # pairs of which the answer after is no longer, and no shorter: fewer say nothing of equal length
EACH_SHARE = 0.05  # and as a share of all


def length_controlled(labels: Mapping[Id, Label], pairs: Pairs, ids: Sequence[Id | None]) -> Controlled:
    """Win rate with the effect of length taken out, of the pairs that could be read (`controlled`)."""
    values, lengths = [], []
    for (before, after), ident in zip(pairs, ids, strict=True):
        value = wins(labels, [(before, after)], [ident])
        if value:
            values += value
            lengths.append(len(after.text) - len(before.text))
    return controlled(values, lengths)


def controlled(values: Sequence[float], lengths: Sequence[float]) -> Controlled:
    """A logistic regression of the win (1, 1/2, 0) on tanh(length difference / its deviation), read at a difference of
    zero (Dubois et al. 2024, arXiv 2404.04475, without the per-prompt term), with a 95% interval.

    The interval is the delta method's, on the scale of the logit with the sandwich variance and Student's t, and with
    two pairs of equal length more, one won and one lost, so that it does not collapse. Where nearly all answers grew,
    or nearly all shrank, what a pair of equal length would bring is not in the data: it cannot be told.
    """
    from scipy.special import expit, stdtrit

    if not values:
        return Controlled(None, "no comparison could be read")
    y, difference = np.asarray(values, dtype=float), np.asarray(lengths, dtype=float)
    if not difference.any():
        return Controlled(interval_of(values))
    least = max(EACH_SIDE, EACH_SHARE * len(y))
    for sign, grew in ((1, "longer"), (-1, "shorter")):
        others = int((sign * difference <= 0).sum())
        if others < least:
            some = f"all but {others} of" if others else "all"
            return Controlled(None, f"it cannot be told: {some} {len(y)} answers are {grew} than before")
    if np.all(y == y[0]):
        return Controlled(interval_of(values))
    x = np.tanh(difference / float(difference.std()))
    theta, _ = _logistic(x, y)
    more, variance = _logistic(np.append(x, (0.0, 0.0)), np.append(y, (1.0, 0.0)))
    half = float(stdtrit(len(y) - 1, 1 - TAIL)) * sqrt(variance)
    mean, low, high = (float(expit(at)) for at in (theta, more - half, more + half))
    return Controlled(Interval(mean, min(low, mean), max(high, mean)))


RIDGE = 0.1  # on the slope: with none, a length that tells every win has no finite one


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The intercept of a logistic regression of y (0 to 1) on x by Newton's method, and its sandwich variance."""
    design, theta = np.stack([np.ones_like(x), x], axis=1), np.zeros(2)
    penalty = np.diag([1e-9, RIDGE])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -30, 30)))
        curvature = (design * (p * (1 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, design.T @ (y - p) - penalty @ theta)
        theta = theta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    spread = (design * ((y - p) ** 2)[:, None]).T @ design
    inverse = np.linalg.inv(curvature)
    return float(theta[0]), float((inverse @ spread @ inverse)[0, 0])
