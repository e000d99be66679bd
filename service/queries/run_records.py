"""What one run has in the store: its prompts, texts, comparisons and labels. Read only; no model is asked.

Everything that looks at a run (a report, a measurement against the truth, a page) reads it through this;
`service.work.work` adds what asks and trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from constitution.principles import Constitution, Principle
from constitution.records import Generation, Id, Label, LabelRule, Prompt, Ruling, Voice
from constitution.streams import Ids, Stream, parts
from pipeline import label
from pipeline.judges.applies import every_tag
from pipeline.judges.judge import Case, Judge
from pipeline.metrics import consistency as judge_consistency
from pipeline.sources.source import sampled
from service import keyed
from service.queries import drawn, rulings
from service.queries.rulings import Whose
from service.settings import Settings
from service.wiring import Wiring
from storage.evidence import SLICE
from storage.runs import Run


class RunRecords:
    """`wiring` holds the store, the constitution and the settings that the run is read under."""

    def __init__(self, wiring: Wiring, run: Run) -> None:
        self.wiring, self.run = wiring, run
        self.settings: Settings = wiring.settings
        self.store = wiring.store
        self.constitution: Constitution = wiring.constitution
        self.home = Path(self.settings.home).resolve()
        self.folder = self.home / run.id.hex()[:12]

    @cached_property
    def start(self) -> str:
        """The policy that the run began with: a folder, or a name that a server knows."""
        return self.wiring.resolve(str(self.run.settings["policy"]))

    def prompts(self, split: str, most: int | None = None) -> Stream[Prompt]:
        """This run's prompts of a split, in the run's order; `most`: a sample of so many (`sources.source.sample`)."""
        ids = self.store.prompts_of(self.run.id, split)
        return Stream(
            ids if most is None else sampled(ids, most), lambda some: self._named.of(self.store.prompts(ids=some))
        )

    def prompts_by_id(self, ids: Iterable[Id]) -> dict[Id, Prompt]:
        """Those of the ids that are prompts, each with the principles that it names in this run."""
        found = self.store.prompts(ids=list(dict.fromkeys(ids)))
        return {p.id: p for p in self._named.of(found)}

    @cached_property
    def _named(self) -> keyed.Named:
        return keyed.Named(self.store, self.run.id)

    def generations(self, stage: str) -> Stream[Generation]:
        """A stage's texts, in their order."""
        return Stream(self.members(stage), self.store.generations)

    def members(self, stage: str) -> Ids:
        return self.store.stage_ids(self.run.id, stage)

    def cases(self, comparisons: Sequence[Id]) -> dict[Id, Case]:
        """Comparisons with their texts, by id."""
        pairs, principles = self.store.pairs(list(comparisons)), self.constitution.principles
        tags = self.tags([p.comparison.prompt for p in pairs], principles)
        return {
            p.comparison.id: Case(p.comparison, p.messages, p.first, p.second, principles, tags[p.comparison.prompt])
            for p in pairs
        }

    def tags(self, prompts: Sequence[Id], principles: Iterable[Principle]) -> dict[Id, tuple[str, ...]]:
        """By prompt, its tags. A dialogue that is no prompt of any source (an example of the constitution) has those
        that the principles' conditions name."""
        known = {p.id: p.tags for p in self.store.prompts(ids=sorted(set(prompts)))}
        return {**dict.fromkeys(prompts, every_tag(principles)), **known}

    def ruling(self, whose: Whose = "judge") -> Ruling:
        """What the trial decided about the judge, or the evaluator, of this run."""
        return rulings.of(self.store, self.run, whose)

    def heard(self, whose: Whose = "judge") -> Constitution:
        """The principles that answers are revised under and a role is asked about: all of them, or, where code decides
        alone if it must (`trial.required = "checks"`), those that the trial left a voice."""
        if self.settings.trial.required != "checks":
            return self.constitution
        silent = self.ruling(whose).left_out
        return replace(self.constitution, principles=tuple(p for p in self.constitution if p.id not in silent))

    def rule(self, whose: Whose = "judge") -> LabelRule:
        return self.ruling(whose).rule or self.settings.rule()

    def voices(self, judge: Judge, whose: Whose = "judge") -> dict[Id, Voice]:
        """How each question counts in this run's labels. Raises UserError where the trial left nobody."""
        return label.voices(self.constitution, judge, self.ruling(whose))

    def labels(self, judge: Judge, comparisons: Sequence[Id], whose: Whose = "judge") -> dict[Id, Label]:
        """The labels of comparisons under this run's constitution and ruling: a query, no model. One that lacks a
        verdict is unreadable."""
        voices, rule = self.voices(judge, whose), self.rule(whose)
        found = self._labelled(judge, sorted(set(comparisons)), whose, voices, rule)
        return {x.comparison: x for x in found}

    def labelled(self, judge: Judge, comparisons: Sequence[Id], whose: Whose = "judge") -> Iterator[Label]:
        """The same, of however many, in the order of their ids."""
        for some in parts(Ids(comparisons).in_order(), SLICE):
            found = self.labels(judge, some, whose)
            yield from (found[id] for id in some if id in found)

    def steady(self, judge: Judge, labels: Mapping[Id, Label], whose: Whose = "judge") -> set[Id]:
        """Of labels of this run, the comparisons whose label names an answer and would name it if only verdicts voted
        whose two orders agree: what may be learnt from as if it were known, with no probability."""
        voices, rule = self.voices(judge, whose), self.rule(whose)
        return rulings.steady(labels, voices, rule, lambda ids, *how: self._labelled(judge, ids, whose, *how))

    def _labelled(
        self, judge: Judge, ids: Sequence[Id], whose: Whose, voices: Mapping[Id, Voice], rule: LabelRule
    ) -> list[Label]:
        of = self.drawn(judge, ids) if whose == "judge" else None
        if of is None:
            return self.store.labels(ids, voices, rule, whole=True)
        return drawn.labels(self.store, of, voices, rule)

    def drawn(self, judge: Judge, comparisons: Sequence[Id]) -> Mapping[Id, set[Id]] | None:
        """By comparison, the questions that label it where principles are drawn; None where all of them do."""
        if self.settings.compare.principles != drawn.SAMPLED:
            return None
        left_out = self.ruling().left_out
        heard = [p for p in self.constitution if p.id not in left_out]
        named = keyed.by_comparison(self.store, self.run.id, comparisons)
        return drawn.questions(heard, {p.id: judge.question(p).id for p in heard}, comparisons, named)

    def consistency(self, judge: Judge, comparisons: Sequence[Id]) -> dict[Id, judge_consistency.Consistency]:
        questions = [judge.question(p).id for p in self.constitution.principles]
        tally = judge_consistency.Tally(self.settings.label.min_mass)
        for some in parts(Ids(comparisons).in_order(), SLICE):
            said = self.store.evidence(some, questions)
            for column, question in enumerate(said.questions):
                there = said.present[:, column]
                tally.add(question, said.p1[there, column], said.p2[there, column], said.mass[there, column])
        return tally.found()
