"""How votes become labels: one arithmetic on integers, for the store's query, for analyses and for a judge as a reward.

Everything is numpy on integers (probabilities x 1e9, weights x 1e3): the order of a float sum would change the last bit
of half of the labels. What lets a verdict vote is the label rule's business and known before; `constitution.records`
says what `LabelRule` and `Voice` mean. Arrays are k questions by n comparisons, [k, n].

Votes are summed by layer: the hard constraints that speak for the first answer, those that speak for the second, and
the tiers, the highest first. A constitution without tiers and hard constraints has one layer, and its label is the
weighted mean that it always was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.records import PROBABILITY, LabelRule, LabelState, Voice

HALF = PROBABILITY // 2
MAX_WEIGHT = 4 * 10**9  # sums of weight x probability stay within 64 bits
STATES: tuple[LabelState, ...] = ("decided", "tied", "unreadable")
DECIDED, TIED, UNREADABLE = range(3)
HARD, NOWHERE = -1, -2  # in place of a tier's place: the label is the hard constraints', or nobody's

Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Layer:
    """Of each comparison: the weight that votes in it, and the sum of weight x s that votes."""

    bearing: Integers
    pull: Integers

    @property
    def p(self) -> Integers:
        """1/2 + pull / (2 * bearing), rounded down to 1e-9; one half where nobody votes."""
        # as one division of numbers that are not negative
        p = (self.bearing * PROBABILITY + self.pull) // np.maximum(2 * self.bearing, 1)
        return np.where(self.bearing > 0, p, HALF)

    def __add__(self, other: Layer) -> Layer:
        return Layer(self.bearing + other.bearing, self.pull + other.pull)

    def __sub__(self, other: Layer) -> Layer:
        return Layer(self.bearing - other.bearing, self.pull - other.pull)


@dataclass(frozen=True, slots=True)
class Panel:
    """The voices of k questions, as arrays: weight x 1e3, tier, whether it is hard, and the clamp x 1e9."""

    weights: Integers
    tiers: Integers
    hard: Flags
    clamps: Integers

    @classmethod
    def of(cls, voices: Sequence[Voice]) -> Self:
        return cls(
            np.array([v.weight for v in voices], np.int64),
            np.array([v.tier for v in voices], np.int64),
            np.array([v.hard for v in voices], np.bool_),
            np.array([PROBABILITY if v.clamp is None else v.clamp for v in voices], np.int64),
        )

    @property
    def places(self) -> Integers:
        """The layer of each question: its tier's place in `levels`, or HARD."""
        levels = np.array(self.levels, np.int64)
        return np.where(self.hard, HARD, np.searchsorted(-levels, -self.tiers))

    @property
    def levels(self) -> tuple[int, ...]:
        """The tiers that there are, the highest first; one, at least."""
        return tuple(sorted(set(self.tiers[~self.hard].tolist()), reverse=True)) or (0,)

    def but(self, **changed: Any) -> Panel:
        return replace(self, **changed)

    def part(self, questions: Any) -> Panel:
        """Of some of the questions: their places, or flags."""
        return Panel(self.weights[questions], self.tiers[questions], self.hard[questions], self.clamps[questions])

    def clamped(self, s: Integers) -> Integers:
        """s [k, n] as it counts."""
        if (self.clamps >= PROBABILITY).all():
            return s
        most = self.clamps[:, None]
        return np.clip(s, -most, most)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of each comparison: the weight that has a verdict and that is readable, and the votes by layer. `total`: the
    weight of all questions. `tiers`: the highest first, as in `levels`. `dark`: the weight of the hard constraints
    whose verdict cannot be read."""

    present: Integers
    readable: Integers
    total: int
    hard: tuple[Layer, Layer]  # those that speak for the first answer, and for the second
    tiers: tuple[Layer, ...]
    dark: Integers

    @classmethod
    def of(cls, panel: Panel, present: Flags, readable: Flags, bears: Flags, s: Integers, rule: LabelRule) -> Self:
        """`s`: as it counts (`Panel.clamped`). All [k, n]."""
        weights, n = panel.weights, s.shape[1]
        nothing = Layer(np.zeros(n, np.int64), np.zeros(n, np.int64))
        hard, dark = (nothing, nothing), nothing.bearing
        if panel.hard.any():
            some = panel.hard
            loud = bears[some] & speaks(s[some], rule)
            hard = tuple(_layer(weights[some], loud & (s[some] * sign > 0), s[some]) for sign in (1, -1))  # type: ignore[assignment]
            dark = weights[some] @ (present[some] & ~readable[some])
        levels = panel.levels
        tiers = []
        for level in levels:
            some = (panel.tiers == level) & ~panel.hard
            if some.all():
                tiers.append(_layer(weights, bears, s))
            else:
                tiers.append(_layer(weights[some], bears[some], s[some]))
        return cls(weights @ present, weights @ readable, int(weights.sum()), hard, tuple(tiers), dark)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of slices of comparisons, one, the sums of all. There is one slice, at least."""
        first = parts[0]

        def layers(of: Sequence[tuple[Layer, ...]]) -> tuple[Layer, ...]:
            each = zip(*of, strict=True)
            return tuple(
                Layer(np.concatenate([x.bearing for x in some]), np.concatenate([x.pull for x in some]))
                for some in each
            )

        one, other = layers([part.hard for part in parts])
        return cls(
            np.concatenate([part.present for part in parts]),
            np.concatenate([part.readable for part in parts]),
            first.total,
            (one, other),
            layers([part.tiers for part in parts]),
            np.concatenate([part.dark for part in parts]),
        )

    def unreadable(self, rule: LabelRule) -> Flags:
        """Where too little of the weight can be read, or a hard constraint cannot: it may have been a veto."""
        found: Flags = (self.readable * PROBABILITY < units(rule.min_readable) * self.total) | (self.dark > 0)
        return found

    @property
    def conflict(self) -> Flags:
        """Where hard constraints speak for both answers."""
        found: Flags = (self.hard[0].bearing > 0) & (self.hard[1].bearing > 0)
        return found

    def label(self, rule: LabelRule, whole: bool = False) -> tuple[Integers, Integers]:
        """The place in STATES, and p, of each label. `whole`: what lacks a verdict is unreadable."""
        states, p, _ = self.resolve(rule)
        unreadable = self.unreadable(rule)
        if whole:
            unreadable = unreadable | (self.present < self.total)
        return np.where(unreadable, UNREADABLE, states), np.where(unreadable, HALF, p)

    def resolve(self, rule: LabelRule) -> tuple[Integers, Integers, Integers]:
        """The place in STATES (never UNREADABLE), p, and the layer that p comes from (the place in `tiers`, HARD, or
        NOWHERE), whether it can be read or not. Where no layer decides, p is that of the highest that votes."""
        shape = self.present.shape
        states, p, layer = np.full(shape, TIED), np.full(shape, HALF), np.full(shape, NOWHERE)
        said = self.hard[0] + self.hard[1]
        conflict, spoken = self.conflict, said.bearing > 0
        done = spoken
        if spoken.any():
            alone = spoken & ~conflict
            states, p = np.where(alone, DECIDED, states), np.where(alone, said.p, p)
            layer = np.where(alone, HARD, layer)
        heard = done
        for place, votes in enumerate(self.tiers):
            mine, voted = votes.p, votes.bearing > 0
            decided = voted & (abs(2 * mine - PROBABILITY) >= units(rule.tie_margin))
            settles = decided & (mine != HALF)
            take = ~done & (settles | (voted & ~heard))
            states = np.where(take, np.where(decided, DECIDED, TIED), states)
            p, layer = np.where(take, mine, p), np.where(take, place, layer)
            done, heard = done | settles, heard | voted
        return states, p, layer


def _layer(weights: Integers, votes: Flags, s: Integers) -> Layer:
    return Layer(weights @ votes, weights @ np.where(votes, s, 0))


def speaks(s: Integers, rule: LabelRule) -> Flags:
    """Whether a hard constraint's vote would decide a label by itself."""
    p = (PROBABILITY + s) // 2
    found: Flags = (abs(2 * p - PROBABILITY) >= units(rule.tie_margin)) & (p != HALF)
    return found


def units(value: float) -> int:
    """A fraction of the rule as the store's integers."""
    return round(value * PROBABILITY)
