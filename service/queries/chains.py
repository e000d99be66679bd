"""Chains of critique and revision as they ended, read back from the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from constitution.principles import Principle
from constitution.records import Generation, Id
from constitution.streams import Ids, Stream
from pipeline import compare as comparing
from pipeline import revise as revising
from pipeline.judges.judge import Judge
from pipeline.metrics import consistency
from service.queries.run_records import RunRecords

PROBES = 40  # pairs a principle: enough to tell a consistency of 0.66 from guessing


def start(work: RunRecords, of: str) -> Stream[revising.Chain]:
    """A chain for each answer of a stage that can be revised."""
    able = Ids(g.id for g in work.generations(of) if revising.revisable(g))
    return Stream(able, lambda some: begun(work, some))


def gone_on(work: RunRecords, answers: Ids, current: Ids) -> Stream[revising.Chain]:
    """Chains that have come from answers to their `current` texts, of their steps nothing."""
    every = range(len(answers))
    return Stream(every, lambda some: begun(work, [answers[n] for n in some], [current[n] for n in some]))


def begun(work: RunRecords, answers: Sequence[Id], current: Sequence[Id] | None = None) -> list[revising.Chain]:
    """Chains of some answers, which have come to `current` texts, or of which nothing is done yet."""
    first = work.store.generations(answers)
    last = first if current is None else work.store.generations(current)
    prompts = work.prompts_by_id(g.prompt for g in first)
    return [revising.Chain(prompts[one.prompt], one, now) for one, now in zip(first, last, strict=True)]


def ended(work: RunRecords, stage: str, of: str) -> Stream[revising.Chain]:
    """The chains of a stage after their last round; none in a run that revised nothing."""

    drawn_from = work.heard()

    def after(answers: Sequence[Id]) -> list[revising.Chain]:
        chains = begun(work, answers)
        prompts = sorted({c.prompt.id for c in chains})
        for round in range(work.settings.revise.rounds):
            revised, found = (
                _by_text(work, name, prompts) for name in (f"{stage}.{round}", f"{stage}.{round}.critique")
            )
            steps = [(found.get(_text(c)), revised.get(_text(c))) for c in chains]
            drawn = [revising.principle_of(c, drawn_from, work.settings.seed, round) for c in chains]
            chains = [_advance(c, round, *step, by) for c, step, by in zip(chains, steps, drawn, strict=True)]
        return chains

    return Stream(Ids(g.id for g in work.generations(of) if revising.revisable(g)), after)


Text: TypeAlias = tuple[Id, Id, int]  # a prompt, the content of an answer to it, and which sample that is


def _text(chain: revising.Chain) -> Text:
    return chain.prompt.id, chain.current.content, chain.original.sample


def _by_text(work: RunRecords, stage: str, prompts: Sequence[Id]) -> dict[Text, Generation]:
    """What was said of answers to some prompts, by the answer's text: one request is stored once, so it may have been
    made by another run, about another record of that text."""
    made = work.store.generations_about(work.run.id, stage, prompts)
    parents = {g.id: g.content for g in work.store.generations(list({g.parent for g in made if g.parent}))}
    return {(g.prompt, parents[g.parent], g.sample): g for g in made if g.parent}


def _advance(
    chain: revising.Chain, round: int, critique: Generation | None, revision: Generation | None, drawn: Principle
) -> revising.Chain:
    """The chain after a round, its steps said to be its own and of the principle that was drawn: where they were stored
    first, that may have had another name."""
    own: dict[str, Any] = {"parent": chain.current.id, "principle": drawn.id}
    said, revised = (replace(step, **own) if step else None for step in (critique, revision))
    return revising.advance(chain, said, revised, drawn, round)


def probed(work: RunRecords, judge: Judge, ended: Iterable[revising.Chain]) -> dict[str, consistency.Probe]:
    """By principle, what the judge's answers to its probes show."""
    found = {}
    for name, pairs in revising.probes(ended, PROBES).items():
        question = judge.question(work.constitution[name]).id
        made = [(comparing.pair(answer, revision), revision) for answer, revision in pairs]
        first = {c.id: c.first == revision.content for c, revision in made if c is not None}
        verdicts = work.store.verdicts(list(first), [question])
        found[name] = consistency.probe([(v, first[v.comparison]) for v in verdicts], work.settings.label.min_mass)
    return found
