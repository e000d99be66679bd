"""How far people agree with the judge, overall and principle by principle, and with each other.

Only pairs that were drawn at random say how good the judge is. Those picked because it was uncertain, or flipped, are
the hard ones: they are counted apart, and prove nothing about the rest. The labels of the answered pairs are computed,
and no others. Of a pair that several people answered, the first answer counts: see `one_a_pair`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from constitution.records import PROBABILITY, Id, Label, SpotAnswer, SpotCheck
from pipeline.metrics.agreement import agreement as agree
from pipeline.metrics.agreement import one_a_pair
from service.queries import judged
from service.queries.judged import Judged
from storage.store import Store

Figures = Mapping[str, Any]  # count, left_out; raw, kappa and ac1, each with mean, low and high


@dataclass(frozen=True)
class Between:
    """Two people, over the pairs that both answered, however the pairs were drawn."""

    reviewers: tuple[str, str]
    figures: Figures

    def as_dict(self) -> dict[str, Any]:
        return {"reviewers": list(self.reviewers), **self.figures}


@dataclass(frozen=True)
class Agreement:
    """`overall` and `by_principle`: of random pairs, one answer each. `others`: by how they were drawn. `reviewers`:
    how many answers each gave, what they skipped apart."""

    run: str
    reviewers: Mapping[str, int]
    overall: Figures
    by_principle: Mapping[str, Figures]
    others: Mapping[str, Figures]
    between_reviewers: tuple[Between, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "between_reviewers": [two.as_dict() for two in self.between_reviewers]}


def agreement(store: Store, run: str = "") -> Agreement:
    """Of a run by the first digits of its id, or of the newest that judged anything. Raises UserError without one."""
    about = judged.newest(store, run)
    checks = store.spot_checks(run=about.run.id, stages=about.stages)
    labels = about.labels(list({c.comparison for c in checks}))
    drawn: dict[str, list[SpotCheck]] = {}
    for check in checks:
        drawn.setdefault(check.sampled_by, []).append(check)
    random = drawn.pop("random", [])
    return Agreement(
        run=about.run.id.hex(),
        reviewers={
            name: sum(c.reviewer == name and c.answer != "skip" for c in checks)
            for name in sorted({c.reviewer for c in checks})
        },
        overall=_with_judge(one_a_pair(random), labels),
        by_principle=_by_principle(about, one_a_pair(random)),
        others={name: _with_judge(one_a_pair(some), labels) for name, some in sorted(drawn.items())},
        between_reviewers=tuple(_between(checks)),
    )


def _with_judge(checks: Sequence[SpotCheck], labels: Mapping[Id, Label]) -> Figures:
    return agree([(c.answer, labels[c.comparison]) for c in checks])


def _by_principle(about: Judged, checks: Sequence[SpotCheck]) -> dict[str, Figures]:
    """A principle's own preference, over the pairs on which its verdict votes for an answer."""
    sides: dict[str, dict[Id, Label]] = {}
    for c in about.contributions([check.comparison for check in checks]):
        if c.chooses:
            label = Label(c.comparison, "decided", PROBABILITY if c.s > 0 else 0)
            for principle in about.principles[c.question]:
                sides.setdefault(principle, {})[c.comparison] = label
    return {
        principle: _with_judge([c for c in checks if c.comparison in labels], labels)
        for principle, labels in sorted(sides.items())
    }


def _between(checks: Sequence[SpotCheck]) -> list[Between]:
    """Everyone against everyone else with whom they have a pair in common."""
    said: dict[str, dict[Id, SpotAnswer]] = {}
    for c in checks:
        said.setdefault(c.reviewer, {})[c.comparison] = c.answer
    found = []
    for one, other in combinations(sorted(said), 2):
        both = [(said[one][id], _as_label(id, said[other][id])) for id in said[one] if id in said[other]]
        if both:
            found.append(Between((one, other), agree(both)))
    return found


def _as_label(comparison: Id, answer: SpotAnswer) -> Label:
    """A person in the judge's place. Who preferred nothing is left out, as a label that cannot be read is."""
    if answer in ("skip", "neither"):
        return Label(comparison, "unreadable", PROBABILITY // 2)
    if answer == "tie":
        return Label(comparison, "tied", PROBABILITY // 2)
    return Label(comparison, "decided", PROBABILITY if answer == "first" else 0)
