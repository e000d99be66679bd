"""What two principles' verdicts have in common, and what is worth saying of it: those that vote alike, and those that
contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from constitution.records import Id
from pipeline.metrics import words
from pipeline.metrics.attribution import FIRST, SECOND, Codes, labels, sums
from pipeline.metrics.finding import Finding, counted, listed
from pipeline.metrics.intervals import Share
from pipeline.metrics.voting import Flags, Integers, Votes
from pipeline.metrics.words import percent

ENOUGH_BOTH = 20  # pairs on which two principles vote
SAME_ANSWER = 0.95  # alike: the lower end of how often two principles name the same answer is at least this,
SAME_PAIRS = 0.9  # and this share of the pairs on which either votes is one on which both do
MISTAKES = 0.025  # conflict: the probability of naming one in a constitution that has none (Bonferroni's bound)
SHOWN = 20  # comparisons named in a finding
TOLD = 3  # principles told of in a sentence


@dataclass(frozen=True)
class Pairing:
    """`same`: of the pairs where both vote, those on which they name the same answer. `overlap`: of the pairs judged
    under both on which either votes, those where both do. `wins`: where they differ, labels for `one`, for `other`."""

    one: str
    other: str
    same: Share
    overlap: Share
    wins: tuple[int, int]

    @property
    def differ(self) -> Share:
        return Share(self.same.of - self.same.count, self.same.of)

    @property
    def alike(self) -> bool:
        return self.same.of >= ENOUGH_BOTH and self.same.low >= SAME_ANSWER and (self.overlap.value or 0) >= SAME_PAIRS

    @property
    def by_chance(self) -> float:
        """How probable so much contradiction is between two principles that have nothing to do with each other, or that
        agree more often than not: a one-sided binomial test against a half."""
        from scipy.stats import binomtest

        return float(binomtest(self.differ.count, self.differ.of, 0.5, "greater").pvalue) if self.differ.of else 1.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "principles": [self.one, self.other],
            "same": self.same.as_dict(),
            "overlap": self.overlap.as_dict(),
            "label_follows": dict(zip((self.one, self.other), self.wins, strict=True)),
        }


def pairings(votes: Votes, outcomes: Codes) -> list[Pairing]:
    """Of every two principles, in their order. `outcomes`: of the labels [n]."""
    s, bears, names = votes.s(), votes.bears, votes.principles
    first, second = bears & (s > 0), bears & (s < 0)
    same, differ = _count(first, first) + _count(second, second), _count(first, second)
    both, either = _count(bears, bears), _count(bears, votes.present)
    for_first, for_second = ((outcomes == side)[:, None] for side in (FIRST, SECOND))
    wins = _count(first & for_first, second) + _count(second & for_second, first)
    return [
        Pairing(
            one=names[i],
            other=names[j],
            same=Share(int(same[i, j]), int(same[i, j] + differ[i, j] + differ[j, i])),
            overlap=Share(int(both[i, j]), int(either[i, j] + either[j, i] - both[i, j])),
            wins=(int(wins[i, j]), int(wins[j, i])),
        )
        for i, j in combinations(range(len(names)), 2)
    ]


def _count(one: Flags, other: Flags) -> Integers:
    """[k, k]: in how many rows both flags are set. Floats hold such counts exactly, and are multiplied fast."""
    counts: Integers = (one.T.astype(np.float64) @ other.astype(np.float64)).round().astype(np.int64)
    return counts


# --- findings ------------------------------------------------------------------------------------------------------


def redundant(votes: Votes, outcomes: Codes, pairings: Sequence[Pairing]) -> Iterator[Finding]:
    """Groups of principles that vote alike, two by two. Those with the same words are told of elsewhere."""
    alike = {frozenset((p.one, p.other)): p for p in _apart(votes, pairings) if p.alike}
    for names in _groups(votes.principles, lambda a, b: frozenset((a, b)) in alike):
        found = [alike[frozenset(two)] for two in combinations(names, 2)]
        least, overlap = min((p.same for p in found), key=lambda s: s.low), min(p.overlap.value or 0 for p in found)
        kept, changed = _merged(votes, outcomes, names)
        sentence = (
            f"{listed(names)} vote alike: the same answer on {least} (95% interval from {percent(least.low)}) of "
            f"{counted(least.of, 'pair')}, and on the same pairs ({words.percent(overlap, 0)})"
        )
        advice = (
            f"keep one: `{kept}` with all their weight would change {changed:,} of {counted(len(outcomes), 'label')}; "
            "or reword them to ask what sets them apart"
        )
        evidence = {"pairings": [p.as_dict() for p in found], "kept": kept, "labels_changed": changed}
        yield Finding("redundant", tuple(names), "notice", sentence, advice, evidence)


def conflicts(votes: Votes, pairings: Sequence[Pairing]) -> Iterator[Finding]:
    """A principle and those it contradicts and loses to, by the labels of the pairs on which they differ."""
    against: dict[str, list[Pairing]] = {}
    tested = [p for p in _apart(votes, pairings) if p.same.of >= ENOUGH_BOTH]
    for p in tested:
        if p.by_chance <= MISTAKES / len(tested):  # of many principles two will always seem to be at odds
            against.setdefault(p.one if p.wins[0] < p.wins[1] else p.other, []).append(p)
    for name, found in against.items():
        found.sort(key=lambda p: -p.differ.count)
        others = [p.other if p.one == name else p.one for p in found]
        told = "; ".join(_told(name, other, p) for other, p in zip(others[:TOLD], found, strict=False))
        told += f"; and {len(others) - TOLD} more" if len(others) > TOLD else ""
        advice = "read some of these pairs: where the loser is right, raise its weight or narrow the winner's words"
        evidence = {"pairings": [p.as_dict() for p in found]}
        shown = _clearest(votes, name, others)
        yield Finding(
            "conflict",
            (name, *others),
            "notice",
            f"where both vote `{name}` contradicts {told}",
            advice,
            evidence,
            shown,
        )


def _told(name: str, other: str, pairing: Pairing) -> str:
    won = pairing.wins[0 if pairing.one == name else 1]
    differ = pairing.differ
    return (
        f"`{other}` on {differ.count:,} of {counted(differ.of, 'pair')} ({differ}, at least {percent(differ.low, 0)}) "
        f"and wins {won:,} of them"
    )


def _apart(votes: Votes, pairings: Sequence[Pairing]) -> Iterator[Pairing]:
    """Without principles that have another's words: what is said of the first is said of all."""
    first = {question: name for name, question in reversed(list(zip(votes.principles, votes.questions, strict=True)))}
    return (p for p in pairings if {p.one, p.other} <= set(first.values()))


def _groups(names: Sequence[str], alike: Callable[[str, str], bool]) -> Iterator[list[str]]:
    """Names that are all alike, two by two, each in one group at most, the first ones first."""
    left = list(names)
    while left:
        group = [left.pop(0)]
        for name in list(left):
            if all(alike(name, member) for member in group):
                group.append(name)
                left.remove(name)
        if len(group) > 1:
            yield group


def _merged(votes: Votes, outcomes: Codes, names: Sequence[str]) -> tuple[str, int]:
    """The one that could stand for all, given their weight, with the fewest labels changed; and that number."""
    places = [votes.principles.index(name) for name in names]
    changed = {}
    for name, place in zip(names, places, strict=True):
        weights = votes.weights.copy()
        weights[places] = 0
        weights[place] = votes.weights[places].sum()
        merged = sums(votes, votes.panel.but(weights=weights))
        changed[name] = int((labels(merged, votes.rule)[1] != outcomes).sum())
    return min(changed.items(), key=lambda item: item[1])


def _clearest(votes: Votes, name: str, others: Sequence[str]) -> tuple[Id, ...]:
    """Comparisons on which the principle votes against one of the others: those where both are surest first."""
    mine = votes.principles.index(name)
    one, sure = votes.s(mine), np.zeros(len(votes.comparisons), dtype=np.int64)
    for place in (votes.principles.index(other) for other in others):
        two = votes.s(place)
        against = votes.bears[:, mine] & votes.bears[:, place] & (np.sign(one) * np.sign(two) < 0)
        sure = np.maximum(sure, np.where(against, np.minimum(np.abs(one), np.abs(two)), 0))
    ranked = sorted(np.flatnonzero(sure), key=lambda row: (-sure[row], votes.comparisons[row]))
    return tuple(votes.comparisons[row] for row in ranked[:SHOWN])
