"""Whether a judge can read a question: how often its two orders agree, on all pairs and on revised ones (`Probe`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from constitution.records import PROBABILITY, Id, Verdict
from pipeline.metrics.intervals import binomial_low
from pipeline.metrics.trust import GOOD, LEVEL, Score

Integers: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Consistency:
    """How a judge did on one question over some pairs. `consistent`: share of readable verdicts whose two orders name
    the same answer. `first_chosen`: how often the answer shown first was named: 1/2 without position bias.
    `abstained`: readable verdicts of exactly one half in both orders, which name nothing: they are in no other count.
    """

    readable: int
    unreadable: int
    consistent: float
    first_chosen: float
    abstained: int = 0


@dataclass(frozen=True)
class Probe:
    """What a judge said of pairs of an answer and its revision under one principle, asked about that principle alone.

    On many of these the principle applies (not on all: a critic also changes what was fine). `consistent`: share of the
    `readable` verdicts whose two orders name the same answer. `revision`: share of those that name the revision.
    `abstained`: as in `Consistency`.
    """

    readable: int
    consistent: float
    revision: float
    abstained: int = 0

    @property
    def at_chance(self) -> bool:
        """Whether nothing shows that the judge reads this principle: neither is its consistency above guessing's 1/2,
        nor does it, where consistent, name the revision more often than the answer (one-sided 97.5% bounds)."""
        same = round(self.consistent * self.readable)
        return not (above_half(self.consistent, self.readable) or above_half(self.revision, same))

    @property
    def too_few(self) -> bool:
        """Whether that is for want of pairs: orders that agree on `GOOD` of them would be seen to agree so seldom in
        more than one case of forty, so nothing speaks against the judge either."""
        same = round(self.consistent * self.readable)
        seen = Score(same, self.readable - same, self.readable, self.consistent)
        return self.at_chance and seen.this_bad(GOOD) > LEVEL


def above_half(share: float, n: int) -> bool:
    """Whether a share of `n` lies above 1/2 by more than chance: an exact one-sided 97.5% bound. It takes six of six:
    four of four, with which a normal bound was content, guessing has in 6% of cases."""
    return n > 0 and binomial_low(round(share * n), n) > 0.5


def probe(verdicts: Iterable[tuple[Verdict, bool]], min_mass: float) -> Probe:
    """Verdicts, each with whether the revision is the comparison's first answer. Unreadable ones are left out."""
    floor, half = round(min_mass * PROBABILITY), PROBABILITY // 2
    legible = [(v, first) for v, first in verdicts if min(v.mass1, v.mass2) >= floor]
    readable = [(v, first) for v, first in legible if not v.even]
    same = [(v.p1 > half) == first for v, first in readable if (v.p1 > half) == (v.p2 > half)]
    return Probe(
        len(readable),
        len(same) / max(1, len(readable)),
        sum(same) / max(1, len(same)),
        len(legible) - len(readable),
    )


def consistency(verdicts: Iterable[Verdict], min_mass: float) -> dict[Id, Consistency]:
    """By question. An order that held less than `min_mass` makes its verdict unreadable."""
    said: dict[Id, list[tuple[int, int, int]]] = {}
    for v in verdicts:
        said.setdefault(v.question, []).append((v.p1, v.p2, min(v.mass1, v.mass2)))
    tally = Tally(min_mass)
    for question, rows in said.items():
        tally.add(question, *np.array(rows, np.int64).T)
    return tally.found()


class Tally:
    """The same of however many verdicts, some at a time: counts are kept, question by question."""

    def __init__(self, min_mass: float) -> None:
        self._floor = round(min_mass * PROBABILITY)
        self._counts: dict[Id, NDArray[np.int64]] = {}

    def add(self, question: Id, p1: Integers, p2: Integers, mass: Integers) -> None:
        """What was said to a question: probabilities of the first answer in both orders, and the lower mass, x 1e9."""
        half = PROBABILITY // 2
        legible = mass >= self._floor
        even = legible & (2 * p1.astype(np.int64) == PROBABILITY) & (2 * p2.astype(np.int64) == PROBABILITY)
        read = legible & ~even
        one, other = p1 > half, p2 > half
        seen = [read, ~legible, even, read & (one == other), read & one, read & ~other]
        counts = np.array([np.count_nonzero(some) for some in seen], np.int64)
        self._counts[question] = self._counts.get(question, np.zeros(len(seen), np.int64)) + counts

    def found(self) -> dict[Id, Consistency]:
        """By question, of those that anything was said to."""
        return {
            question: Consistency(
                readable=readable,
                unreadable=unreadable,
                consistent=same / readable if readable else 0.0,
                first_chosen=(shown_first + shown_second) / 2 / readable if readable else 0.5,
                abstained=abstained,
            )
            for question, counts in self._counts.items()
            for readable, unreadable, abstained, same, shown_first, shown_second in [counts.tolist()]
            if readable + unreadable + abstained
        }
