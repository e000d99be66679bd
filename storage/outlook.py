"""What an amendment does to labels: those that stay, those that flip, and those that depend on verdicts not stored yet.

A verdict that is missing may turn out unreadable, an abstention, or a vote with any s from -1 to 1. With weight m
of them missing, B voting and P the pull, the mean of s lies from (P - m) / (B + m) to (P + m) / (B + m), and both ends
can happen; what a label says moves one way with that mean. So two labels, one with every missing verdict for each
answer, tell exactly whether the outcome is sure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from constitution.records import PROBABILITY, Id, LabelRule
from storage import labels
from storage.evidence import Integers
from storage.labels import HALF, Labels, Sums, Weights, check

Outcome: TypeAlias = Literal["first", "second", "tied", "unreadable"]
OUTCOMES: tuple[Outcome, ...] = ("first", "second", "tied", "unreadable")
FIRST, SECOND, TIED, UNREADABLE = range(4)
OPEN = 4


@dataclass(frozen=True, slots=True)
class Outlook:
    """A label before and after an amendment. `after` None: open, it depends on verdicts that are not stored yet.

    `p_before`, `p_after`: probability x 1e9 that `first` is the better; in `p_after` missing verdicts count as readable
    and abstaining. `missing`: weight x 1e3 of the new questions without a verdict on this comparison.
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
        questions = list(dict.fromkeys([*before, *after]))

        def work(some: Sequence[Id]) -> tuple[Sums, Sums]:
            votes = self._votes(some, questions, rule)
            return Sums.of(votes, before), Sums.of(votes, after)

        touched: dict[Id, Outlook] = {}
        for some, (old, new) in self._in_slices(comparisons, work):
            touched.update((outlook.comparison, outlook) for outlook in _touched(some, old, new, rule))
        wanted = list(dict.fromkeys(comparisons))
        changes = [touched[id] for id in wanted if id in touched]
        return Prospects(
            same=len(wanted) - len(changes),
            flips=[change for change in changes if change.after is not None],
            open=[change for change in changes if change.after is None],
        )


def _touched(some: Sequence[Id], old: Sums, new: Sums, rule: LabelRule) -> Iterator[Outlook]:
    """The labels of a slice that do not surely stay."""
    missing = new.total - new.present
    before, after = _outcomes(old, rule), _sure(new, missing, rule)
    p_before, p_after = (sums.label(rule)[1] for sums in (old, replace(new, readable=new.readable + missing)))
    places = np.flatnonzero(after != before)
    columns = (column[places].tolist() for column in (before, after, p_before, p_after, missing))
    for place, was, will, *numbers in zip(places, *columns, strict=True):
        yield Outlook(some[place], OUTCOMES[was], None if will == OPEN else OUTCOMES[will], *numbers)


def _outcomes(sums: Sums, rule: LabelRule) -> Integers:
    """Places in OUTCOMES of what labels say. Decided at exactly one half names no answer: tied."""
    states, p = sums.label(rule)
    decided = np.select([p > HALF, p < HALF], [FIRST, SECOND], TIED)
    return np.select([states == labels.UNREADABLE, states == labels.TIED], [UNREADABLE, TIED], decided)


def _sure(sums: Sums, missing: Integers, rule: LabelRule) -> Integers:
    """The outcome that each label has however the missing weight is answered, or OPEN."""
    most, bearing = missing * PROBABILITY, sums.bearing + missing
    lowest = _outcomes(replace(sums, bearing=bearing, pull=sums.pull - most), rule)
    highest = _outcomes(replace(sums, bearing=bearing, pull=sums.pull + most), rule)
    never, not_yet = replace(sums, readable=sums.readable + missing).unreadable(rule), sums.unreadable(rule)
    return np.select([never, not_yet, lowest == highest], [UNREADABLE, OPEN, lowest], OPEN)
