"""How often the evaluator prefers the answer after to the one before. The limits on it are the gate's own."""

from __future__ import annotations

from pipeline.metrics import win_rate
from pipeline.metrics.intervals import Interval, Share, interval_of
from pipeline.suites.suite import Evidence, Figure

TITLE = "Win rate against before"


def measure(evidence: Evidence) -> list[Figure]:
    """Nothing where nobody compared the answers; no win rate where no comparison could be read."""
    if not evidence.comparisons:
        return []
    pairs, labels, ids = evidence.pairs, evidence.labels, evidence.comparisons
    values = win_rate.wins(labels, pairs, ids)
    rate = interval_of(values) if values else None
    controlled = win_rate.length_controlled(labels, pairs, ids).interval
    lost = Share(len(pairs) - len(values), len(pairs))
    unreadable = Interval(win_rate.unreadable(values, pairs), lost.low, lost.high)
    n = len(values)
    return [
        Figure("win_rate", TITLE, None, rate, None, n, better="higher"),
        Figure("length_controlled", "Win rate, length-controlled", None, controlled, None, n, better="higher"),
        Figure("unreadable", "Comparisons that could not be read", None, unreadable, None, len(pairs), better="lower"),
    ]  # fmt: skip
