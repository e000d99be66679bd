"""What an amendment does to labels: those that stay, those that flip, and those that depend on verdicts not stored yet.

A verdict that is missing may turn out unreadable, an abstention, or a vote with any s from -1 to 1 (or as far as its
voice is clamped). With weight m of them missing in a tier, B voting and P the pull, the mean of s lies from
(P - m) / (B + m) to (P + m) / (B + m), and both ends can happen; what a tier says moves one way with that mean. So two
sums, one with every missing verdict for each answer, tell exactly what a tier may say. Tiers have no question in
common, so what a label may say follows tier by tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias

import numpy as np

from constitution import tally
from constitution.records import PROBABILITY, Id, LabelRule
from constitution.tally import HALF, Flags, Integers, Layer, Panel, Sums
from storage.labels import NONE, Labels, Voices, Weights, voiced
from storage.labels import tally as tallied

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
        """What becomes of each comparison's label when the voices `before` give way to `after`; no model is asked.

        The two may share questions. Before, a question without a verdict counts as unreadable, as in `labels`; after,
        it may be answered in any way yet. Raises KeyError for a comparison that is not stored.
        """
        old, new = voiced(before), voiced(after)
        read = {**new, **old}
        again = {q: voice for q, voice in new.items() if (voice.rule or rule) != (read[q].rule or rule)}
        panels = Panel.of(list(old.values())), Panel.of(list(new.values()))

        def work(some: Sequence[Id]) -> tuple[Sums, Sums, Missing]:
            votes = self._votes(some, read, rule)
            now = tallied(votes, old, panels[0], rule)
            if again:  # the same question, read by another rule
                votes = votes | self._votes(some, again, rule)
            return now, tallied(votes, new, panels[1], rule), Missing.of(votes, new, panels[1], rule)

        touched: dict[Id, Outlook] = {}
        for some, found in self._in_slices(comparisons, work):
            touched.update((outlook.comparison, outlook) for outlook in _touched(some, *found, rule))
        wanted = list(dict.fromkeys(comparisons))
        changes = [touched[id] for id in wanted if id in touched]
        return Prospects(
            same=len(wanted) - len(changes),
            flips=[change for change in changes if change.after is not None],
            open=[change for change in changes if change.after is None],
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """Of each comparison of a slice, the weight of the questions without a verdict: of those that are hard, of those of
    them that could speak, and of each tier's, by what |s| counts as at most, the largest first."""

    all: Integers
    hard: Integers
    loud: Integers
    tiers: tuple[tuple[tuple[int, Integers], ...], ...]

    @classmethod
    def of(cls, votes: Mapping[Id, Integers], voices: Voices, panel: Panel, rule: LabelRule) -> Self:
        lacking = np.stack([votes[question] for question in voices]) == NONE
        weights = panel.weights
        could = panel.hard & tally.speaks(panel.clamps, rule)
        tiers = []
        for level in panel.levels:
            mine = (panel.tiers == level) & ~panel.hard
            clamps = sorted(set(panel.clamps[mine].tolist()), reverse=True)
            some = [(clamp, mine & (panel.clamps == clamp)) for clamp in clamps]
            tiers.append(tuple((clamp, weights[these] @ lacking[these]) for clamp, these in some))
        hard, loud = (weights[some] @ lacking[some] for some in (panel.hard, could))
        return cls(weights @ lacking, hard, loud, tuple(tiers))


def _touched(some: Sequence[Id], old: Sums, new: Sums, missing: Missing, rule: LabelRule) -> Iterator[Outlook]:
    """The labels of a slice that do not surely stay."""
    before, after = _outcomes(old, rule), _sure(new, missing, rule)
    p_before, p_after = (sums.label(rule)[1] for sums in (old, replace(new, readable=new.readable + missing.all)))
    places = np.flatnonzero(after != before)
    columns = (column[places].tolist() for column in (before, after, p_before, p_after, missing.all))
    for place, was, will, *numbers in zip(places, *columns, strict=True):
        yield Outlook(some[place], OUTCOMES[was], None if will == OPEN else OUTCOMES[will], *numbers)


def _outcomes(sums: Sums, rule: LabelRule) -> Integers:
    """Places in OUTCOMES of what labels say. Decided at exactly one half names no answer: tied."""
    states, p = sums.label(rule)
    decided = np.select([p > HALF, p < HALF], [FIRST, SECOND], TIED)
    return np.select([states == tally.UNREADABLE, states == tally.TIED], [UNREADABLE, TIED], decided)


def _sure(sums: Sums, missing: Missing, rule: LabelRule) -> Integers:
    """The outcome that each label has however the missing weight is answered, or OPEN."""
    first, second = (layer.bearing > 0 for layer in sums.hard)
    veto = missing.loud > 0
    tied = (first & second) | ((first | second) & veto)
    open_below = ~(first | second)  # the tiers may have a say
    first, second = (first & ~second) | (open_below & veto), (second & ~first) | (open_below & veto)
    for layer, lacking in zip(sums.tiers, missing.tiers, strict=True):
        lowest, highest = (_said(_extreme(layer, lacking, sign), rule) for sign in (-1, 1))
        first, second = first | (open_below & (highest == FIRST)), second | (open_below & (lowest == SECOND))
        open_below = open_below & ~((lowest == highest) & (lowest != TIED))
    tied = tied | open_below
    one = first.astype(np.int64) + second + tied == 1
    said = np.select([~one, first, second], [OPEN, FIRST, SECOND], TIED)
    never = replace(sums, readable=sums.readable + missing.all).unreadable(rule)
    not_yet = sums.unreadable(rule) | (missing.hard > 0)  # a hard constraint that turns out unreadable leaves no label
    return np.select([never, not_yet], [UNREADABLE, OPEN], said)


def _extreme(layer: Layer, lacking: Sequence[tuple[int, Integers]], sign: int) -> Layer:
    """The layer with its missing verdicts answered so that the mean is as low (-1) or as high (1) as it can be."""
    bearing, pull = layer.bearing, layer.pull
    for clamp, weight in lacking:
        moves: Flags = (weight > 0) & ((bearing == 0) | (sign * pull < clamp * bearing))
        bearing = bearing + np.where(moves, weight, 0)
        pull = pull + np.where(moves, sign * clamp * weight, 0)
    return Layer(bearing, pull)


def _said(layer: Layer, rule: LabelRule) -> Integers:
    """What a tier says by itself: FIRST, SECOND, or TIED where it passes on."""
    p = layer.p
    decides = (layer.bearing > 0) & (abs(2 * p - PROBABILITY) >= tally.units(rule.tie_margin))
    return np.select([decides & (p > HALF), decides & (p < HALF)], [FIRST, SECOND], TIED)
