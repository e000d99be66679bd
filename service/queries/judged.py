"""What a run's judge said, read from the store alone: no model is loaded and nothing is asked.

For people who check the judge (`review`, `agreement`) and for exports. The judge is the one that made the training
labels; the evaluator's verdicts are another judge's, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Id, Label, LabelRule
from service.queries.pool import NO_LABELS
from storage.labels import Contribution
from storage.runs import Run
from storage.store import Store

QUESTIONS = ".questions"  # the stage of the questions that a stage's comparisons were asked
FEEDBACK = "feedback"


@dataclass(frozen=True)
class Judged:
    """`comparisons`: those that the run's judge was asked about, in the run's order. `principles`: by question; those
    with the same words share one."""

    store: Store
    run: Run
    comparisons: tuple[Id, ...]
    principles: Mapping[Id, tuple[str, ...]]
    weights: Mapping[Id, int]
    rule: LabelRule

    @cached_property
    def labels(self) -> dict[Id, Label]:
        return {x.comparison: x for x in self.store.labels(self.comparisons, self.weights, self.rule)}

    def contributions(self, comparisons: Sequence[Id]) -> Iterator[Contribution]:
        """Each verdict on some of the comparisons: whether it can be read, bears, and which way it pulls."""
        return self.store.contributions(comparisons, self.weights, self.rule)


def of(store: Store, run: Run) -> Judged:
    """Raises UserError where the run has judged nothing, or was not a flow's."""
    name = run.id.hex()[:12]
    if run.kind in NO_LABELS:
        raise UserError(f"run {name} ({run.kind}) asked the judge, and labelled nothing; name another run")
    stages = [stage for stage in store.reused(run.id) if not stage.endswith(QUESTIONS)]
    asked = {stage: ids for stage in stages if (ids := store.stage_members(run.id, stage + QUESTIONS))}
    text = store.constitutions().get(run.constitution or "")
    if not asked or text is None:
        raise UserError(f"run {name} has judged nothing yet: `precept run list` shows what was run")
    judges = {stage: store.questions(ids)[0].judge for stage, ids in asked.items()}
    judge = judges[FEEDBACK if FEEDBACK in judges else next(iter(judges))]
    mine = [stage for stage in asked if judges[stage] == judge]
    questions = {id for stage in mine for id in asked[stage]}
    weights: dict[Id, int] = {}
    principles: dict[Id, tuple[str, ...]] = {}
    by_principle = store.clauses(run.constitution or "")
    for principle, weight in Constitution.parse(text).weights().items():
        for question in questions & set(by_principle.get(principle, ())):
            weights[question] = weights.get(question, 0) + weight
            principles[question] = (*principles.get(question, ()), principle)
    comparisons = dict.fromkeys(id for stage in mine for id in store.stage_members(run.id, stage))
    return Judged(store, run, tuple(comparisons), principles, weights, LabelRule(**_rule(run)))


def newest(store: Store, name: str) -> Judged:
    """What was judged in the run of that id, or in the newest run that judged anything."""
    if name:
        return of(store, store.run(name))
    for run in store.runs():
        if run.kind not in NO_LABELS and any(stage.endswith(QUESTIONS) for stage in store.reused(run.id)):
            return of(store, run)
    raise UserError("nothing was judged yet; `precept improve` or `precept judge` does it")


def _rule(run: Run) -> dict[str, Any]:
    return {k: v for k, v in run.settings["settings"]["label"].items() if k in LabelRule.__dataclass_fields__}
