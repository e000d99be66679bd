"""Chains of critique and revision as they ended, read back from the store."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Generation, Id
from flows.work import Work
from pipeline import compare as comparing
from pipeline import label as labelling
from pipeline import revise as revising
from pipeline.judges.judge import Judge

PROBES = 40  # pairs a principle: enough to tell a consistency of 0.66 from guessing


def start(work: Work, of: str) -> list[revising.Chain]:
    """A chain for each answer of a stage that can be revised."""
    return revising.start(work.prompts("train"), work.generations(of))


def ended(work: Work, stage: str, of: str) -> list[revising.Chain]:
    """The chains of a stage after their last round; none in a run that revised nothing."""
    chains = start(work, of)
    for round in range(work.settings.revise.rounds):
        revised = _by_parent(work.generations(f"{stage}.{round}"))
        found = _by_parent(work.generations(f"{stage}.{round}.critique"))
        chains = [
            revising.advance(c, found.get((c.prompt.id, c.current.id)), revised[c.prompt.id, c.current.id])
            for c in chains
        ]
    return chains


def _by_parent(generations: Sequence[Generation]) -> dict[tuple[Id, Id | None], Generation]:
    return {(g.prompt, g.parent): g for g in generations}


def probed(work: Work, judge: Judge, ended: Sequence[revising.Chain]) -> dict[str, labelling.Probe]:
    """By principle, what the judge's answers to its probes show."""
    found = {}
    for name, pairs in revising.probes(ended, PROBES).items():
        question = judge.question(work.constitution[name]).id
        made = [(comparing.pair(answer, revision), revision) for answer, revision in pairs]
        first = {c.id: c.first == revision.content for c, revision in made if c is not None}
        verdicts = work.store.verdicts(list(first), [question])
        found[name] = labelling.probe([(v, first[v.comparison]) for v in verdicts], work.settings.label.min_mass)
    return found
