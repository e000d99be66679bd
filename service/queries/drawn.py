"""One principle a label, drawn for each comparison, where `compare.principles = "sampled"` (CAI section 4.1): the judge
is asked about that one, and the label is what it says. The evaluator is asked about all.

What decides before others goes on doing so: every hard principle is asked, and one is drawn of each tier, so that no
draw passes over a veto or puts a lower tier in the place of a higher one.

A preview, and what counts verdicts of all principles, knows nothing of it: it prices an edit as if all were asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from constitution.principles import Principle
from constitution.records import Id, Label, LabelRule, Voice
from pipeline import label
from storage.store import Store

SAMPLED = "sampled"


class Drawn(Mapping[Id, set[Id]]):
    """By comparison, its questions: drawn when they are looked up."""

    def __init__(self, heard: Sequence[Principle], asked: Mapping[str, Id], comparisons: Sequence[Id]) -> None:
        self._asked, self._comparisons = asked, comparisons
        self._always = {asked[p.id] for p in heard if p.hard}
        self._tiers: dict[int, list[Principle]] = {}
        for principle in heard:
            if not principle.hard:
                self._tiers.setdefault(principle.tier, []).append(principle)

    def __getitem__(self, comparison: Id) -> set[Id]:
        return self._always | {self._asked[label.drawn(some, comparison).id] for some in self._tiers.values()}

    def __iter__(self) -> Iterator[Id]:
        return iter(self._comparisons)

    def __len__(self) -> int:
        return len(self._comparisons)


def questions(heard: Sequence[Principle], asked: Mapping[str, Id], comparisons: Sequence[Id]) -> Drawn:
    """By comparison, the questions of the principles that label it, of those that are heard: one that is drawn of each
    tier, and all that are hard. `asked`: by principle's id."""
    return Drawn(heard, asked, comparisons)


def labels(store: Store, of: Mapping[Id, Set[Id]], voices: Mapping[Id, Voice], rule: LabelRule) -> list[Label]:
    """The labels of comparisons, each by its own questions alone."""
    by_questions: dict[tuple[Id, ...], list[Id]] = {}
    for comparison, asked in of.items():
        by_questions.setdefault(tuple(sorted(asked)), []).append(comparison)
    found: list[Label] = []
    for mine, some in sorted(by_questions.items()):
        found += store.labels(sorted(some), {question: voices[question] for question in mine}, rule, whole=True)
    return found
