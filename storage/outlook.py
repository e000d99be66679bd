"""What an amendment does to labels: those that stay, those that flip, and those that depend on verdicts not stored yet.

A verdict that is missing may turn out unreadable, readable without bearing on the pair, or bearing with any s from -1
to 1. With weight m of them missing, B bearing and P the pull, the mean of s lies from (P - m) / (B + m) to
(P + m) / (B + m), and both ends can happen; what a label says moves one way with that mean. So two labels, one with
every missing verdict for each answer, tell exactly whether the outcome is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from constitution.records import PROBABILITY, Id, LabelRule
from storage.labels import HALF, Bar, Labels, Weights, check, slices, sums, total, weighed

Outcome: TypeAlias = Literal["first", "second", "tied", "unreadable"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A label before and after an amendment. `after` None: open, it depends on verdicts that are not stored yet.

    `p_before`, `p_after`: probability x 1e9 that `first` is the better; in `p_after` missing verdicts count as readable
    and not bearing. `missing`: weight x 1e3 of the new questions without a verdict on this comparison.
    """

    comparison: Id
    before: Outcome
    after: Outcome | None
    p_before: int
    p_after: int
    missing: int


@dataclass(frozen=True, slots=True)
class Prospects:
    """`same`: how many labels surely keep their outcome. `flips`: those that surely change it. Both lists are in the
    order in which the comparisons were given."""

    same: int
    flips: list[Outlook]
    open: list[Outlook]


class Outlooks(Labels):
    def outlook(self, comparisons: Sequence[Id], before: Weights, after: Weights, rule: LabelRule) -> Prospects:
        """What becomes of each comparison's label when the weights `before` give way to `after`; no model is asked.

        The two may share questions. Before, a question without a verdict counts as unreadable, as in `labels`; after,
        it may be answered in any way yet. Raises KeyError for a comparison that is not stored.
        """
        check(before)
        check(after)
        old, new, whole = Bar.of(before, rule), Bar.of(after, rule), sum(after.values())
        asked = weighed(before, after)
        numbers = [*sums(asked.c.weight0, rule), *sums(asked.c.weight1, rule), total(asked.c.weight1)]
        touched: dict[Id, Outlook] = {}
        for some in slices(comparisons):
            for id, (*was, readable, bearing, pull, answered) in self._tallies(some, asked, numbers):
                missing = whole - answered
                now, p = _outcome(old, *was)
                then = _sure(new, readable, bearing, pull, missing)
                if then != now:
                    _, p_then = new.label(readable + missing, bearing, pull)
                    touched[id] = Outlook(id, now, then, p, p_then, missing)
        changes = [touched[id] for id in dict.fromkeys(comparisons) if id in touched]
        return Prospects(
            same=len(set(comparisons)) - len(changes),
            flips=[change for change in changes if change.after is not None],
            open=[change for change in changes if change.after is None],
        )


def _outcome(bar: Bar, readable: int, bearing: int, pull: int) -> tuple[Outcome, int]:
    """What a label of these sums says, and its p. Decided at exactly one half names no answer: tied."""
    state, p = bar.label(readable, bearing, pull)
    if state != "decided":
        return state, p
    return ("first" if p > HALF else "second" if p < HALF else "tied"), p


def _sure(bar: Bar, readable: int, bearing: int, pull: int, missing: int) -> Outcome | None:
    """The outcome, where it is the same however the missing weight is answered."""
    if (readable + missing) * PROBABILITY < bar.readable:
        return "unreadable"
    if readable * PROBABILITY < bar.readable:
        return None
    most = missing * PROBABILITY
    lowest, _ = _outcome(bar, readable, bearing + missing, pull - most)
    highest, _ = _outcome(bar, readable, bearing + missing, pull + most)
    return lowest if lowest == highest else None
