"""The stages of the loop up to its labels: input from the store, output into the store, ids in between.

A stage says what is wanted; `Work` finds what is stored and asks for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from constitution.errors import UserError
from constitution.records import Generation, Id
from pipeline import compare as comparing
from pipeline import label as labelling
from pipeline import revise as revising
from pipeline.judges.judge import Judge
from pipeline.metrics import consistency
from pipeline.respond import respond as plan_responses
from service.queries import chains as chaining
from service.queries import measure
from service.work import probing
from service.work.roles import critic_of, role_of
from service.work.work import Work


def start_model(work: Work) -> str:
    """The policy this run began with, resolved once: "the promoted one" does not move when the run is resumed."""
    began = time.monotonic()
    policy = work.start
    role_of(work, policy)
    work.timed("models", began)
    return policy


def look_ahead(work: Work) -> None:
    """What the whole loop will need: a mistake in what comes last is told now, and the training process starts."""
    work.wiring.check()
    if work.settings.rounds > 1 and not work.prompts("dev"):
        raise UserError("whether a round helped is measured on the development split, which is empty: set splits.dev")
    work.warm_up()


# --- answering, criticising, revising ----------------------------------------------------------------------------


def respond(work: Work, stage: str, model: str, split: str, samples: int = 1, most: int | None = None) -> int:
    """Answers of a model to the prompts of a split."""
    role = role_of(work, model)
    asks = plan_responses(work.prompts(split, most), role, seed=work.settings.seed, samples=samples)
    return len(work.gather(stage, asks, role, work.settings.policy.batch_size))


def revise(work: Work, stage: str, of: str) -> dict[str, int]:
    """Rounds of critique and revision of a stage's answers. Returns how many revisions were kept and dropped."""
    settings, seed = work.settings.revise, work.settings.seed
    critic = critic_of(work)
    batch = (work.settings.critic or work.settings.policy).batch_size
    chains = chaining.start(work, of)
    for round in range(settings.rounds):
        found = None
        if settings.critique:
            asks = revising.critiques(chains, critic, work.constitution, seed=seed, round=round)
            found = work.gather(f"{stage}.{round}.critique", asks, critic, batch)
        asks = revising.revisions(chains, found, critic, work.constitution, seed=seed, round=round)
        revised = work.gather(f"{stage}.{round}", asks, critic, batch)
        critiques: Sequence[Generation | None] = found or [None] * len(chains)
        chains = [revising.advance(c, f, r) for c, f, r in zip(chains, critiques, revised, strict=True)]
    dropped: dict[str, int] = {}
    for chain in chains:
        for reason, count in chain.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return {"chains": len(chains), "kept": sum(len(c.kept) for c in chains), **dropped}


def judge_revisions(work: Work, stage: str, of: str = "answers") -> dict[str, Any]:
    """Which revisions the judge finds better than the answer they began from: only those are learnt from.

    Returns ids of generations: `better`, and `fine` (answers in which no round found anything to mend).
    """
    judge = work.wiring.judge(work.settings.judge)
    ended = chaining.ended(work, stage, of)
    candidates = [
        (c.original, revision)
        for c in ended
        for revision in (c.kept if work.settings.sft.use == "all" else c.kept[-1:])
        if revision.content != c.original.content
    ]
    ids = work.compare(f"{stage}.judged", candidates)
    asked = [i for i in ids if i is not None]
    work.ask_judge(f"{stage}.judged", judge, asked)
    stop_if_unreadable(work, judge, asked)
    _probe(work, f"{stage}.probes", judge, ended)
    probing.refuse_chance(work, chaining.probed(work, judge, ended).values())
    labels = work.labels(judge, asked)
    better = [
        revision.id
        for (original, revision), ident in zip(candidates, ids, strict=True)
        if ident is not None and labels[ident].preferred_first == (revision.content < original.content)
    ]
    fine = [c.original.id for c in ended if c.current.content == c.original.content]
    work.log(f"{len(better)} of {len(candidates)} revisions are better by the judge; {len(fine)} answers needed none")
    return {"better": better, "fine": fine, "candidates": len(candidates)}


def _probe(work: Work, stage: str, judge: Judge, ended: Sequence[revising.Chain]) -> None:
    """Ask the judge about each principle on pairs that were revised under it; what it can read shows there."""
    only: dict[Id, set[Id]] = {}
    for name, pairs in revising.probes(ended, chaining.PROBES).items():
        question = judge.question(work.constitution[name]).id
        for ident in work.compare(f"{stage}.{name}", pairs):
            if ident is not None:
                only.setdefault(ident, set()).add(question)
    work.ask_judge(stage, judge, list(only), only)


def stop_if_unreadable(work: Work, judge: Any, comparisons: Sequence[Id]) -> dict[Id, consistency.Consistency]:
    found = work.consistency(judge, comparisons)
    labelling.refuse_unreadable(found, work.settings.label.max_unreadable)
    return found


# --- comparing and labelling -------------------------------------------------------------------------------------


def compare(work: Work, stage: str, samples: str, revisions: str | None = None) -> int:
    """The pairs to be judged: samples of one model against each other, and originals against their last revisions."""
    pairs = comparing.samples_of(work.generations(samples), work.settings.compare.pairs)
    if revisions is not None:
        pairs += [(c.original, c.kept[-1]) for c in chaining.ended(work, revisions, "answers") if c.kept]
    return len([i for i in work.compare(stage, pairs) if i is not None])


def label(work: Work, stage: str, heldout: str) -> dict[str, Any]:
    """Have the judge answer every principle's question about every pair, and label by query. Returns comparison ids
    and what there is to say of the judge and its labels."""
    judge = work.wiring.judge(work.settings.judge)
    train, held = work.members(stage), work.members(heldout)
    work.ask_judge(stage, judge, train)
    work.ask_judge(heldout, judge, held)
    found = stop_if_unreadable(work, judge, [*train, *held])
    labels = work.labels(judge, train)
    principles = {judge.question(p).id: p for p in work.constitution.principles}
    probes = chaining.probed(work, judge, chaining.ended(work, "revisions", "answers"))
    probing.refuse_chance(work, probes.values())
    for name, seen in probes.items():
        if seen.at_chance and seen.readable >= probing.FEW:  # of two or three nothing can be said
            work.log(
                f"warning: on pairs that were revised under {name!r} the judge's two orders agree on "
                f"{seen.consistent:.0%} of {seen.readable}, no more than guessing would: reword it or change the judge",
            )
    readable = sum(c.readable for c in found.values())
    unreadable = sum(c.unreadable for c in found.values())
    return {
        "train": train,
        "heldout": held,
        "labels": labelling.counts(list(labels.values())) | measure.labels(work, judge, train),
        "judge": {
            "position_consistency": _consistent(probes.values()),
            "position_consistency_all_pairs": _consistent(found.values()),
            "unreadable_rate": unreadable / max(1, readable + unreadable),
            "principles": {principles[q].id: _reading(c, probes.get(principles[q].id)) for q, c in found.items()},
        } | measure.judge(work, judge, held),
    }  # fmt: skip


def _reading(everywhere: consistency.Consistency, probed: consistency.Probe | None) -> dict[str, Any]:
    at_chance = probed is not None and probed.at_chance
    return {**asdict(everywhere), "probes": asdict(probed) if probed else None, "at_chance": at_chance}


def _consistent(found: Iterable[consistency.Consistency | consistency.Probe]) -> float | None:
    seen = list(found)
    readable = sum(c.readable for c in seen)
    return sum(c.consistent * c.readable for c in seen) / readable if readable else None
