"""The stages of the loop up to its labels: input from the store, output into the store, ids in between.

A stage says what is wanted; `Work` finds what is stored and asks for the rest.
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Generation, Id
from constitution.streams import Ids, Stream, batched, picked, some
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

TOGETHER = 5_000  # chains whose labels are read together
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
    made = work.gather(stage, asks, role, work.settings.policy.batch_size)
    count, whole = _tell_cut(work, stage, made, role.sampling.max_tokens)
    if asks and not whole:
        raise UserError(_all_lost(work, stage, count, role.sampling.max_tokens))
    return count


def _tell_cut(work: Work, stage: str, made: Iterable[Generation | None], limit: int) -> tuple[int, int]:
    """Count the answers that were cut, and say so where they are many. How many answers there are, and how many of them
    were finished and are not empty."""
    count = cut = whole = 0
    for answer in made:
        if answer is not None:
            count += 1
            cut += answer.finish_reason != "stop"
            whole += len(comparing.whole([answer]))
    work.left_out.cut[stage] = cut, count
    if cut and cut >= TOLD * count:
        work.log(
            f"warning: {cut} of {count} {stage} ({cut / count:.0%}) were cut at the limit of {limit} tokens: "
            f"they are neither revised, compared nor learnt from. Set {LIMIT} higher"
        )
    return count, whole


def _all_lost(work: Work, stage: str, count: int, limit: int) -> str:
    if not count:
        lost = work.left_out.of_stage(stage)
        said = lost[0].refused.said
        return f"none of the {len(lost)} {stage} could be asked for, so there is nothing to go on with: {said}"
    cut, _ = work.left_out.cut[stage]
    if not cut:
        return f"all {count} {stage} are empty, so there is nothing to go on with: look at the model's chat template"
    others = " and the others are empty" if cut < count else ""
    return (
        f"{cut} of {count} {stage} were cut at the limit of {limit} tokens{others}, so there is "
        f"nothing to revise, compare or learn from. Set {LIMIT} to more than {limit}, as {4 * limit}"
    )


def revise(work: Work, stage: str, of: str) -> dict[str, int]:
    """Rounds of critique and revision of a stage's answers. Returns how many revisions were kept and dropped."""
    chains = chaining.start(work, of)
    dropped, kept = Counter[str](), 0
    for round in range(work.settings.revise.rounds):
        names = f"{stage}.{round}.critique", f"{stage}.{round}"
        answers, current = Ids(), Ids()
        for chain in one_round(work, names, chains, work.heard(), round):
            answers.append(chain.original.id)
            current.append(chain.current.id)
            dropped.update(chain.dropped)
            kept += len(chain.kept)
        chains = chaining.gone_on(work, answers, current)
    work.left_out.dropped[stage] = dict(dropped)
    if lost := dropped.total():
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        work.log(f"{lost} of {len(chains) * work.settings.revise.rounds} revisions were dropped: {why}")
    return {"chains": len(chains), "kept": kept, **dropped}


def one_round(
    work: Work,
    names: tuple[str, str],
    chains: Sequence[revising.Chain],
    constitution: Constitution,
    round: int,
) -> Stream[revising.Chain]:
    """One round of critique, where the settings ask for it, and revision. `names`: of the two stages. A chain whose
    critique or revision cannot be had goes on with the answer it has."""
    critic, seed = critic_of(work), work.settings.seed
    batch = (work.settings.critic or work.settings.policy).batch_size
    critiques: Sequence[Generation | None] | None = None
    able, place = array("q", range(len(chains))), array("q", range(len(chains)))
    if work.settings.revise.critique:
        asks = revising.critiques(chains, critic, constitution, seed=seed, round=round)
        critiques = work.gather(names[0], asks, critic, batch)
        able, place = array("q"), array("q")  # the chains that go on, and where each chain is among them, or -1
        for number, (chain, critique) in enumerate(zip(chains, critiques, strict=True)):
            principle = revising.principle_of(chain, constitution, seed, round)
            goes_on = critique is not None and revising.why_not_used(critique, principle) is None
            place.append(len(able) if goes_on else -1)
            able.extend([number] if goes_on else [])
    asks = revising.revisions(
        picked(chains, able), None if critiques is None else picked(critiques, able), critic, constitution,
        seed=seed, round=round, again=work.settings.revise.way == "answer",
    )  # fmt: skip
    revised = work.gather(names[1], asks, critic, batch)

    def advanced(numbers: Sequence[int]) -> list[revising.Chain]:
        found: Sequence[Generation | None] = [None] * len(numbers) if critiques is None else some(critiques, numbers)
        went = [number for number in numbers if place[number] >= 0]
        new = dict(zip(went, some(revised, [place[number] for number in went]), strict=True))
        return [
            revising.advance(
                chain, critique, new.get(number), revising.principle_of(chain, constitution, seed, round), round
            )
            for number, chain, critique in zip(numbers, some(chains, numbers), found, strict=True)
        ]

    return Stream(range(len(chains)), advanced)


def judge_revisions(work: Work, stage: str, of: str = "answers") -> dict[str, Any]:
    """Which revisions the judge finds better than the answer they began from: only those are learnt from.

    Returns ids of generations: `better`, and `fine` (answers in which no round found anything to mend; not those of
    which a revision was dropped, whatever for).
    """
    judge = work.wiring.judge(work.settings.judge)
    ended = chaining.ended(work, stage, of)
    asked = work.put_up(f"{stage}.judged", (pair for chain in ended for pair in _candidates(work, chain)))
    work.ask_judge(f"{stage}.judged", judge, asked, work.drawn(judge, asked), whose="judge")
    stop_if_unreadable(work, judge, asked)
    _probe(work, f"{stage}.probes", judge, ended)
    probes = chaining.probed(work, judge, ended)
    trial.refuse_chance(work, [seen for name, seen in probes.items() if asks_a_model(judge, work.constitution[name])])
    better, fine, candidates = Ids(), Ids(), 0
    for chains in batched(ended, TOGETHER):
        pairs = [pair for chain in chains for pair in _candidates(work, chain)]
        found = [comparing.pair(*pair) for pair in pairs]
        labels = work.labels(judge, [c.id for c in found if c is not None])
        steady = work.steady(judge, labels)
        better.extend(
            revision.id
            for (original, revision), c in zip(pairs, found, strict=True)
            if c is not None
            and c.id in steady  # the judge may have had to omit it, or its verdicts change with the order
            and labels[c.id].preferred_first == (revision.content < original.content)
        )
        fine.extend(c.original.id for c in chains if c.untouched)
        candidates += len(pairs)
    work.log(f"{len(better)} of {candidates} revisions are better by the judge; {len(fine)} answers needed none")
    return {"better": better, "fine": fine, "candidates": candidates}


def _candidates(work: Work, chain: revising.Chain) -> list[tuple[Generation, Generation]]:
    """An answer and each of its revisions that may be learnt from."""
    kept = chain.kept if work.settings.sft.use == "all" else chain.kept[-1:]
    return [(chain.original, revision) for revision in kept if revision.content != chain.original.content]


def _probe(work: Work, stage: str, judge: Judge, ended: Iterable[revising.Chain]) -> None:
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
    if comparisons and omitted and all(i in omitted for i in comparisons):
        said = next(o for o in work.left_out.everything if o.of == comparisons[0]).refused.said
        raise UserError(f"the judge could not be asked about any of the {len(comparisons)} pairs: {said}")


# --- comparing and labelling -------------------------------------------------------------------------------------


def compare(work: Work, stage: str, samples: str, revisions: str | None = None) -> int:
    """The pairs to be judged: samples of one model against each other, and originals against their last revisions."""
    by_prompt = itertools.groupby(work.generations(samples), lambda g: g.prompt)  # as `respond` has asked for them
    count = len(
        work.put_up(
            stage, (p for _, some in by_prompt for p in comparing.samples_of(list(some), work.settings.compare.pairs))
        )
    )
    if revisions is not None:
        ended = chaining.ended(work, revisions, "answers")
        count += len(work.put_up(stage, ((c.original, c.kept[-1]) for c in ended if c.kept)))
    return count


def label(work: Work, stage: str, heldout: str) -> dict[str, Any]:
    """Have the judge answer every principle's question about every pair, and label by query. Returns comparison ids
    and what there is to say of the judge and its labels."""
    judge = work.wiring.judge(work.settings.judge)
    train, held = work.members(stage), work.members(heldout)
    trial.refuse_moved(work, "judge", work.settings.judge)
    work.ask_judge(stage, judge, train, work.drawn(judge, train), whose="judge")
    work.ask_judge(heldout, judge, held, work.drawn(judge, held), whose="judge")
    stop_if_all_omitted(work, judge, train)
    found = stop_if_unreadable(work, judge, Ids(itertools.chain(train, held)))
    principles = {judge.question(p).id: p for p in work.constitution.principles}
    probes = chaining.probed(work, judge, chaining.ended(work, "revisions", "answers"))
    exact = {p.id for p in principles.values() if not asks_a_model(judge, p)}  # code says the same in both orders
    trial.refuse_chance(work, [probe for name, probe in probes.items() if name not in exact])
    for name, seen in probes.items():
        enough = seen.readable >= trial.FEWEST_PROBES and not seen.too_few  # of a few pairs nothing can be said
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
        "labels": labelling.counts(work.labelled(judge, train)) | measure.labels(work, judge, train),
        "judge": {
            "position_consistency": _consistent(probes[name] for name in probes if name not in exact),
            "position_consistency_all_pairs": _consistent(c for q, c in found.items() if principles[q].id not in exact),
            "unreadable_rate": unreadable / max(1, readable + unreadable),
            "principles": {
                p.id: _reading(found[q], probes.get(p.id))
                for p in work.constitution
                if (q := judge.question(p).id) in found
            },
        } | cascaded(work.store, judge, work.constitution, [*train, *held]) | measure.judge(work, judge, held),
    }  # fmt: skip


def cascaded(store: Store, judge: Judge, constitution: Constitution, comparisons: Sequence[Id]) -> dict[str, Any]:
    """Of a judge that is two: how often they differ where the small one is sure, on the sample that was put to both."""
    questions = [judge.question(principle) for principle in constitution]
    asked = [question.id for question in questions if question.readout.get("method") == "cascade"]
    return {"cascade": disagreement(store.reasons(comparisons, asked)).as_dict()} if asked else {}


def _reading(everywhere: consistency.Consistency, probed: consistency.Probe | None) -> dict[str, Any]:
    found = {**asdict(everywhere), "probes": asdict(probed) if probed else None}
    return found | {"at_chance": bool(probed and probed.at_chance), "too_few": bool(probed and probed.too_few)}


def _consistent(found: Iterable[consistency.Consistency | consistency.Probe]) -> float | None:
    seen = list(found)
    readable = sum(c.readable for c in seen)
    return sum(c.consistent * c.readable for c in seen) / readable if readable else None
