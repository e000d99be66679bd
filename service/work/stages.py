"""The stages of the loop up to its labels: input from the store, output into the store, ids in between.

A stage says what is wanted; `Work` finds what is stored and asks for the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Generation, Id
from pipeline import compare as comparing
from pipeline import label as labelling
from pipeline import promote
from pipeline import revise as revising
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.cascade import disagreement
from pipeline.judges.judge import Judge
from pipeline.metrics import consistency
from pipeline.respond import respond as plan_responses
from service.queries import chains as chaining
from service.queries import measure
from service.work import trial
from service.work.roles import critic_of, role_of
from service.work.work import Work
from storage.store import Store

TOLD = 0.2  # from this share on it is said that answers were cut
LIMIT = "policy.max_tokens (and trained.max_tokens, where checkpoints have a section of their own)"


def start_model(work: Work) -> str:
    """The policy this run began with, resolved once: "the promoted one" does not move when the run is resumed."""
    began = time.monotonic()
    policy = work.start
    role_of(work, policy)
    work.timed("models", began)
    return policy


def look_ahead(work: Work) -> None:
    """What the whole loop will need: the training process starts. (Mistakes were told before: `service.preflight`.)"""
    work.warm_up()
    harmless = ["harmless" in p.tags for p in work.prompts("heldout", work.settings.evaluate.prompts)]
    for why in promote.foreseen(work.settings.conditions(), harmless):
        work.log(f"warning: nothing of this run can be promoted: {why}")


# --- answering, criticising, revising ----------------------------------------------------------------------------


def respond(work: Work, stage: str, model: str, split: str, samples: int = 1, most: int | None = None) -> int:
    """Answers of a model to the prompts of a split. Returns how many. Raises UserError where none can be gone on with:
    all were refused, or cut, or empty."""
    role = role_of(work, model)
    asks = plan_responses(work.prompts(split, most), role, seed=work.settings.seed, samples=samples)
    made = [g for g in work.gather(stage, asks, role, work.settings.policy.batch_size) if g is not None]
    _tell_cut(work, stage, made, role.sampling.max_tokens)
    if asks and not comparing.whole(made):
        raise UserError(_all_lost(work, stage, made, role.sampling.max_tokens))
    return len(made)


def _tell_cut(work: Work, stage: str, made: Sequence[Generation], limit: int) -> None:
    """Count the answers that were cut, and say so where they are many."""
    cut = sum(g.finish_reason != "stop" for g in made)
    work.left_out.cut[stage] = cut, len(made)
    if cut and cut >= TOLD * len(made):
        work.log(
            f"warning: {cut} of {len(made)} {stage} ({cut / len(made):.0%}) were cut at the limit of {limit} tokens: "
            f"they are neither revised, compared nor learnt from. Set {LIMIT} higher"
        )


def _all_lost(work: Work, stage: str, made: Sequence[Generation], limit: int) -> str:
    if not made:
        lost = work.left_out.of_stage(stage)
        said = lost[0].refused.said
        return f"none of the {len(lost)} {stage} could be asked for, so there is nothing to go on with: {said}"
    cut = sum(g.finish_reason != "stop" for g in made)
    if not cut:
        return (
            f"all {len(made)} {stage} are empty, so there is nothing to go on with: look at the model's chat template"
        )
    return (
        f"{cut} of {len(made)} {stage} were cut at the limit of {limit} tokens and the others are empty, so there is "
        f"nothing to revise, compare or learn from. Set {LIMIT} to more than {limit}, as {4 * limit}"
    )


def revise(work: Work, stage: str, of: str) -> dict[str, int]:
    """Rounds of critique and revision of a stage's answers. Returns how many revisions were kept and dropped."""
    chains = chaining.start(work, of)
    for round in range(work.settings.revise.rounds):
        names = f"{stage}.{round}.critique", f"{stage}.{round}"
        chains = one_round(work, names, chains, work.heard(), round)
    dropped: Counter[str] = Counter()
    for chain in chains:
        dropped.update(chain.dropped)
    work.left_out.dropped[stage] = dict(dropped)
    if lost := dropped.total():
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        work.log(f"{lost} of {len(chains) * work.settings.revise.rounds} revisions were dropped: {why}")
    return {"chains": len(chains), "kept": sum(len(c.kept) for c in chains), **dropped}


def one_round(
    work: Work,
    names: tuple[str, str],
    chains: Sequence[revising.Chain],
    constitution: Constitution,
    round: int,
) -> list[revising.Chain]:
    """One round of critique, where the settings ask for it, and revision. `names`: of the two stages. A chain whose
    critique or revision cannot be had goes on with the answer it has."""
    critic, seed = critic_of(work), work.settings.seed
    batch = (work.settings.critic or work.settings.policy).batch_size
    principles = [revising.principle_of(c, constitution, seed, round) for c in chains]
    found: Sequence[Generation | None] = [None] * len(chains)
    if work.settings.revise.critique:
        asks = revising.critiques(chains, critic, constitution, seed=seed, round=round)
        found = work.gather(names[0], asks, critic, batch)
    able = [
        i
        for i, (critique, principle) in enumerate(zip(found, principles, strict=True))
        if not work.settings.revise.critique
        or (critique is not None and revising.why_not_used(critique, principle) is None)
    ]
    critiques = [c for i in able if (c := found[i]) is not None] if work.settings.revise.critique else None
    asks = revising.revisions([chains[i] for i in able], critiques, critic, constitution, seed=seed, round=round)
    revised = dict(zip(able, work.gather(names[1], asks, critic, batch), strict=True))
    return [revising.advance(c, found[i], revised.get(i), principles[i], round) for i, c in enumerate(chains)]


def judge_revisions(work: Work, stage: str, of: str = "answers") -> dict[str, Any]:
    """Which revisions the judge finds better than the answer they began from: only those are learnt from.

    Returns ids of generations: `better`, and `fine` (answers in which no round found anything to mend; not those of
    which a revision was dropped, whatever for).
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
    work.ask_judge(f"{stage}.judged", judge, asked, work.drawn(judge, asked), whose="judge")
    stop_if_unreadable(work, judge, asked)
    _probe(work, f"{stage}.probes", judge, ended)
    probes = chaining.probed(work, judge, ended)
    trial.refuse_chance(work, [seen for name, seen in probes.items() if asks_a_model(judge, work.constitution[name])])
    labels = work.labels(judge, asked)
    steady = work.steady(judge, labels)
    better = [
        revision.id
        for (original, revision), ident in zip(candidates, ids, strict=True)
        if ident is not None
        and ident in steady  # the judge may have had to omit it, or its verdicts change with the order
        and labels[ident].preferred_first == (revision.content < original.content)
    ]
    fine = [c.original.id for c in ended if c.untouched]
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
    work.ask_judge(stage, judge, list(only), only, whose="judge")


def stop_if_unreadable(work: Work, judge: Any, comparisons: Sequence[Id]) -> dict[Id, consistency.Consistency]:
    found = work.consistency(judge, comparisons)
    heard = work.voices(judge)  # what the trial left out may be as unreadable as it likes
    labelling.refuse_unreadable({q: c for q, c in found.items() if q in heard}, work.settings.label.max_unreadable)
    return found


def stop_if_all_omitted(work: Work, judge: Judge, comparisons: Sequence[Id]) -> None:
    """Raise UserError where the judge could not be asked about any of the comparisons: there is no label then."""
    omitted = work.omitted(judge)
    if comparisons and omitted.issuperset(comparisons):
        said = next(o for o in work.left_out.everything if o.of == comparisons[0]).refused.said
        raise UserError(f"the judge could not be asked about any of the {len(comparisons)} pairs: {said}")


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
    trial.refuse_moved(work, "judge", work.settings.judge)
    work.ask_judge(stage, judge, train, work.drawn(judge, train), whose="judge")
    work.ask_judge(heldout, judge, held, work.drawn(judge, held), whose="judge")
    stop_if_all_omitted(work, judge, train)
    found = stop_if_unreadable(work, judge, [*train, *held])
    labels = work.labels(judge, train)
    principles = {judge.question(p).id: p for p in work.constitution.principles}
    probes = chaining.probed(work, judge, chaining.ended(work, "revisions", "answers"))
    exact = {p.id for p in principles.values() if not asks_a_model(judge, p)}  # code says the same in both orders
    trial.refuse_chance(work, [probe for name, probe in probes.items() if name not in exact])
    for name, seen in probes.items():
        enough = seen.readable >= trial.FEWEST_PROBES  # of two or three nothing can be said
        if enough and seen.at_chance and name not in exact:
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
            "position_consistency": _consistent(probes[name] for name in probes if name not in exact),
            "position_consistency_all_pairs": _consistent(c for q, c in found.items() if principles[q].id not in exact),
            "unreadable_rate": unreadable / max(1, readable + unreadable),
            "principles": {principles[q].id: _reading(c, probes.get(principles[q].id)) for q, c in found.items()},
        } | cascaded(work.store, judge, work.constitution, [*train, *held]) | measure.judge(work, judge, held),
    }  # fmt: skip


def cascaded(store: Store, judge: Judge, constitution: Constitution, comparisons: Sequence[Id]) -> dict[str, Any]:
    """Of a judge that is two: how often they differ where the small one is sure, on the sample that was put to both."""
    questions = [judge.question(principle) for principle in constitution]
    asked = [question.id for question in questions if question.readout.get("method") == "cascade"]
    return {"cascade": disagreement(store.reasons(comparisons, asked)).as_dict()} if asked else {}


def _reading(everywhere: consistency.Consistency, probed: consistency.Probe | None) -> dict[str, Any]:
    at_chance = probed is not None and probed.at_chance
    return {**asdict(everywhere), "probes": asdict(probed) if probed else None, "at_chance": at_chance}


def _consistent(found: Iterable[consistency.Consistency | consistency.Probe]) -> float | None:
    seen = list(found)
    readable = sum(c.readable for c in seen)
    return sum(c.consistent * c.readable for c in seen) / readable if readable else None
