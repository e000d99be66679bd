"""One principle a label, drawn for each comparison, where `compare.principles = "sampled"` (CAI section 4.1): the judge
is asked about that one, and the label is what it says. The evaluator is asked about all.

A preview, and what counts verdicts of all principles, knows nothing of it: it prices an edit as if all were asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from constitution.principles import Principle
from constitution.records import Id, Label, LabelRule, Voice
from pipeline import label
from storage.store import Store

SAMPLED = "sampled"


def questions(heard: Sequence[Principle], asked: Mapping[str, Id], comparisons: Iterable[Id]) -> dict[Id, Id]:
    """By comparison, the question of the principle that is drawn for it, of those that are heard. `asked`: by
    principle's id."""
    return {comparison: asked[label.drawn(heard, comparison).id] for comparison in comparisons}


def labels(store: Store, of: Mapping[Id, Id], voices: Mapping[Id, Voice], rule: LabelRule) -> list[Label]:
    """The labels of comparisons, each by its own question alone."""
    by_question: dict[Id, list[Id]] = {}
    for comparison, question in of.items():
        by_question.setdefault(question, []).append(comparison)
    found: list[Label] = []
    for question, some in sorted(by_question.items()):
        found += store.labels(sorted(some), {question: voices[question]}, rule, whole=True)
    return found
