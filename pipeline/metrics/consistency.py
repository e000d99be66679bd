"""Whether a judge can read a question: how often its two orders agree, on all pairs and on revised ones (`Probe`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from constitution.records import PROBABILITY, Id, Verdict
from pipeline.metrics.intervals import binomial_low


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
    floor = round(min_mass * PROBABILITY)
    half = PROBABILITY // 2
    seen: dict[Id, list[tuple[bool, float]]] = {}
    lost: Counter[Id] = Counter()
    abstained: Counter[Id] = Counter()
    for v in verdicts:
        rows = seen.setdefault(v.question, [])
        if min(v.mass1, v.mass2) < floor:
            lost[v.question] += 1
        elif v.even:
            abstained[v.question] += 1
        else:
            rows.append(((v.p1 > half) == (v.p2 > half), ((v.p1 > half) + (v.p2 <= half)) / 2))
    return {
        question: Consistency(
            readable=len(rows),
            unreadable=lost[question],
            consistent=sum(same for same, _ in rows) / len(rows) if rows else 0.0,
            first_chosen=sum(first for _, first in rows) / len(rows) if rows else 0.5,
            abstained=abstained[question],
        )
        for question, rows in seen.items()
    }
