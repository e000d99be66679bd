"""What a run's judge said, read from the store alone: no model is loaded and nothing is asked.

For people who check the judge (`review`, `agreement`, `labels`) and for exports. The judge is the one that made the
training labels; the evaluator's verdicts are another judge's, and are left out.

Nothing is read before it is asked for, and labels are computed for the comparisons that are named: a run may have a
million verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Id, Label, LabelRule, Voice
from pipeline import label
from pipeline.judges.by_principle import asked_most
from service import keyed
from service.queries import drawn, rulings
from service.queries.pool import ASIDE, NO_LABELS
from storage.labels import Contribution
from storage.runs import Run
from storage.store import Store

QUESTIONS = ".questions"  # the stage of the questions that a stage's comparisons were asked
FEEDBACK = "feedback"


@dataclass(frozen=True)
class Judged:
    """`stages`: those whose comparisons the run's judge was asked about. `principles`: by question; those with the same
    words share one."""

    store: Store
    run: Run
    constitution: Constitution
    stages: tuple[str, ...]
    principles: Mapping[Id, tuple[str, ...]]
    voices: Mapping[Id, Voice]  # of those that the judge's trial left out there is none
    rule: LabelRule

    @cached_property
    def comparisons(self) -> tuple[Id, ...]:
        """All that the judge was asked about, in the run's order: 16 bytes each."""
        members = (id for stage in self.stages for id in self.store.stage_members(self.run.id, stage))
        return tuple(dict.fromkeys(members))

    def labels(self, comparisons: Sequence[Id]) -> dict[Id, Label]:
        return {x.comparison: x for x in self._labelled(comparisons, self.voices, self.rule)}

    def _labelled(self, comparisons: Sequence[Id], voices: Mapping[Id, Voice], rule: LabelRule) -> list[Label]:
        if self.run.settings["settings"].get("compare", {}).get("principles") == drawn.SAMPLED:
            asked = {name: question for question, names in self.principles.items() for name in names}
            named = keyed.by_comparison(self.store, self.run.id, comparisons)
            of = drawn.questions([p for p in self.constitution if p.id in asked], asked, comparisons, named)
            return drawn.labels(self.store, of, voices, rule)
        return self.store.labels(comparisons, voices, rule, whole=True)

    def steady(self, labels: Mapping[Id, Label]) -> set[Id]:
        """Of these labels, those that do not rest on verdicts which change with the order: see `rulings.steady`."""
        return rulings.steady(labels, self.voices, self.rule, self._labelled)

    def contributions(self, comparisons: Sequence[Id]) -> Iterator[Contribution]:
        """Each verdict on some of the comparisons: whether it can be read, votes, and which way it pulls."""
        return self.store.contributions(comparisons, self.voices, self.rule)


def of(store: Store, run: Run) -> Judged:
    """Raises UserError where the run has judged nothing, or was not a flow's."""
    name = run.id.hex()[:12]
    if run.kind in NO_LABELS:
        raise UserError(f"run {name} ({run.kind}) asked the judge, and labelled nothing; name another run")
    stages = [s for s in store.stages(run.id) if s not in ASIDE]  # what the judge was tried on is not the run's
    asked = {s: ids for s in stages if s + QUESTIONS in stages and (ids := store.stage_members(run.id, s + QUESTIONS))}
    text = store.constitution(run.constitution or "")
    if not asked or text is None:
        raise UserError(f"run {name} has judged nothing yet: `precept run list` shows what was run")
    judges = {stage: asked_most(store.questions(ids)) for stage, ids in asked.items()}  # code is asked in all of them
    judge = judges[FEEDBACK if FEEDBACK in judges else next(iter(judges))]
    mine = [stage for stage in asked if judges[stage] == judge]
    questions = {id for stage in mine for id in asked[stage]}
    principles: dict[Id, tuple[str, ...]] = {}
    by_principle, constitution = store.clauses(run.constitution or ""), _parsed(text)
    ruling, said = rulings.of(store, run), []
    known = {question.id: question for question in store.questions(sorted(questions))}
    for principle in constitution:
        for question in questions & set(by_principle.get(principle.id, ())):
            said.append((principle, known[question]))
            if principle.id not in ruling.left_out:
                principles[question] = (*principles.get(question, ()), principle.id)
    rule = ruling.rule or rule_of(run)
    return Judged(store, run, constitution, tuple(mine), principles, label.combined(said, ruling), rule)


def newest(store: Store, name: str) -> Judged:
    """What was judged in the run of that id, or in the newest run that judged anything."""
    if name:
        return of(store, store.run(name))
    run = store.newest_judged((*NO_LABELS, "evaluate"))  # an evaluator's verdicts are no labels
    if run is None:
        raise UserError("nothing was judged yet; `precept improve` or `precept judge pairs` does it")
    return of(store, run)


@lru_cache(maxsize=8)  # a page asks for each item; the same text is always the same constitution
def _parsed(text: str) -> Constitution:
    return loading.parse(text)


def rule_of(run: Run) -> LabelRule:
    """The label rule of the settings that a run began with."""
    said = run.settings["settings"]["label"]
    return LabelRule(**{k: v for k, v in said.items() if k in LabelRule.__dataclass_fields__})
