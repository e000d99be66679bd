"""The steps of the flows, each a Prefect task: input from the store, output into the store, ids in between.

A step says what is wanted; `Work` finds what is stored and asks for the rest. What a step is, is in `flows/step.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import Checkpoint, Comparison, Generation, Id, text_digest
from flows import chains as chaining
from flows import measure
from flows.settings import RoleSettings
from flows.step import log, step
from flows.work import Work
from pipeline import compare as comparing
from pipeline import effects, promote
from pipeline import evaluate as evaluating
from pipeline import label as labelling
from pipeline import revise as revising
from pipeline.asking import Role
from pipeline.judges.judge import Judge
from pipeline.prompts import pair_kind, read_rows
from pipeline.respond import respond as plan_responses
from storage.artifacts import point

# --- models in their roles ---------------------------------------------------------------------------------------


def role_of(work: Work, model: str, settings: RoleSettings | None = None) -> Role:
    """A policy, the start model or a checkpoint, as the settings say that policies are run."""
    start = work.run.settings["policy"]
    trained = work.settings.trained or work.settings.policy
    return work.wiring.role(settings or (work.settings.policy if model == start else trained), model)


def critic_of(work: Work) -> Role:
    """Who criticises and revises: the policy this run began with, or a critic of its own."""
    critic = work.settings.critic
    if critic is None or critic.model == work.settings.policy.model:
        return role_of(work, str(work.run.settings["policy"]), critic)
    return work.wiring.role(critic)


@step
def start_model(work: Work) -> str:
    """The policy this run began with, resolved once: "the promoted one" does not move when the run is resumed."""
    began = time.monotonic()
    policy = str(work.run.settings["policy"])
    role_of(work, policy)
    work.timed("models", began)
    return policy


@step
def look_ahead(work: Work) -> None:
    """What the whole loop will need: a mistake in what comes last is told now, and the training process starts."""
    work.wiring.check()
    if work.settings.rounds > 1 and not work.prompts("dev"):
        raise UserError("whether a round helped is measured on the development split, which is empty: set splits.dev")
    work.warm_up()


# --- answering, criticising, revising ----------------------------------------------------------------------------


@step
def respond(work: Work, stage: str, model: str, split: str, samples: int = 1, most: int | None = None) -> int:
    """Answers of a model to the prompts of a split."""
    role = role_of(work, model)
    asks = plan_responses(work.prompts(split, most), role, seed=work.settings.seed, samples=samples)
    return len(work.gather(stage, asks, role, work.settings.policy.batch_size))


@step
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


@step
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
    _stop_if_unreadable(work, judge, asked)
    _probe(work, f"{stage}.probes", judge, ended)
    labels = work.labels(judge, asked)
    better = [
        revision.id
        for (original, revision), ident in zip(candidates, ids, strict=True)
        if ident is not None and labels[ident].preferred_first == (revision.content < original.content)
    ]
    fine = [c.original.id for c in ended if c.current.content == c.original.content]
    log(work, f"{len(better)} of {len(candidates)} revisions are better by the judge; {len(fine)} answers needed none")
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


def _stop_if_unreadable(work: Work, judge: Any, comparisons: Sequence[Id]) -> dict[Id, labelling.Consistency]:
    found = work.consistency(judge, comparisons)
    labelling.refuse_unreadable(found, work.settings.label.max_unreadable)
    return found


# --- comparing and labelling -------------------------------------------------------------------------------------


@step
def compare(work: Work, stage: str, samples: str, revisions: str | None = None) -> int:
    """The pairs to be judged: samples of one model against each other, and originals against their last revisions."""
    pairs = comparing.samples_of(work.generations(samples), work.settings.compare.pairs)
    if revisions is not None:
        pairs += [(c.original, c.kept[-1]) for c in chaining.ended(work, revisions, "answers") if c.kept]
    return len([i for i in work.compare(stage, pairs) if i is not None])


@step
def label(work: Work, stage: str, heldout: str) -> dict[str, Any]:
    """Have the judge answer every principle's question about every pair, and label by query. Returns comparison ids
    and what there is to say of the judge and its labels."""
    judge = work.wiring.judge(work.settings.judge)
    train, held = work.members(stage), work.members(heldout)
    work.ask_judge(stage, judge, train)
    work.ask_judge(heldout, judge, held)
    found = _stop_if_unreadable(work, judge, [*train, *held])
    labels = work.labels(judge, train)
    principles = {judge.question(p).id: p for p in work.constitution.principles}
    probes = chaining.probed(work, judge, chaining.ended(work, "revisions", "answers"))
    for name, seen in probes.items():
        if seen.at_chance:
            log(
                work,
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


def _reading(everywhere: labelling.Consistency, probed: labelling.Probe | None) -> dict[str, Any]:
    at_chance = probed is not None and probed.at_chance
    return {**asdict(everywhere), "probes": asdict(probed) if probed else None, "at_chance": at_chance}


def _consistent(found: Iterable[labelling.Consistency | labelling.Probe]) -> float | None:
    seen = list(found)
    readable = sum(c.readable for c in seen)
    return sum(c.consistent * c.readable for c in seen) / readable if readable else None


# --- measuring and deciding --------------------------------------------------------------------------------------


@step
def evaluate(
    work: Work,
    stage: str,
    before: str,
    after: str,
    halfway: str | None = None,
    besides: Sequence[str] = (),
    split: str = "heldout",
) -> dict[str, Any]:
    """Before against after on held-out prompts, by a judge that made none of the training labels. A model `halfway`
    between them is counted, not judged. `besides`: ids of principles that an amendment took away; the evaluator is
    asked about them too, and its answers have no part in the win rate. What chooses between models looks at the
    `split` dev instead."""
    prompts = work.prompts(split, work.settings.evaluate.prompts)
    by_id = {p.id: p for p in prompts}
    answers: dict[str, list[Generation]] = {}
    for name, model in (("before", before), ("halfway", halfway), ("after", after)):
        if model is None:
            continue
        role = role_of(work, model)
        asks = plan_responses(prompts, role, seed=work.settings.seed)
        answers[name] = work.gather(f"{stage}.{name}", asks, role, work.settings.policy.batch_size)
    pairs = list(zip(answers["before"], answers["after"], strict=True))
    ids = work.compare(f"{stage}.pairs", pairs)
    asked = [i for i in ids if i is not None]
    evaluator = work.wiring.judge(work.settings.evaluator)
    work.ask_judge(f"{stage}.pairs", evaluator, asked)
    labels = work.labels(evaluator, asked)
    values = evaluating.wins(labels, pairs, ids)
    principles = list(work.constitution.principles)
    if besides:
        gone = Constitution("removed", tuple(_before(work)[name] for name in besides))
        work.ask_judge(f"{stage}.removed", evaluator, asked, constitution=gone)
        principles += gone.principles
    return {
        "prompts": len(prompts),
        "win_rate": evaluating.bootstrap(values, work.settings.seed).as_dict() if values else _NOT_KNOWN,
        "length_controlled": evaluating.length_controlled(labels, pairs, ids),
        "unreadable": 1 - len(values) / max(1, len(pairs)),
        "by_principle": _by_principle(work, evaluator, principles, pairs, ids),
        **{name: evaluating.surfaces(by_id, found) for name, found in answers.items()},
        "truth": {name: measure.answers(work, by_id, found) for name, found in answers.items()},
        "truth_moved": measure.moved(work, by_id, pairs),
    }


_NOT_KNOWN = {"mean": None, "low": None, "high": None}


def _before(work: Work) -> Constitution:
    """The constitution of the run that a retrain starts from."""
    version = work.store.run(work.settings.retrain.base).constitution or ""
    return Constitution.parse(work.store.constitutions()[version], "the base's constitution")


def _by_principle(
    work: Work,
    judge: Judge,
    principles: Sequence[Principle],
    pairs: Sequence[tuple[Generation, Generation]],
    ids: Sequence[Id | None],
) -> dict[str, Any]:
    """For each principle: on how many pairs it bears by the label rule, how often it prefers the answer after there,
    and its `effect` over all prompts (`pipeline.effects`)."""
    rule, questions = work.settings.rule(), {judge.question(p).id: p for p in principles}
    after_first = {i: after.content < before.content for (before, after), i in zip(pairs, ids, strict=True) if i}
    same_text = float(sum(i is None for i in ids))
    votes: dict[Id, dict[str, float]] = {q: {} for q in questions}
    unread: Counter[Id] = Counter()
    for c in work.store.contributions(list(after_first), dict.fromkeys(questions, 1), rule):
        if not c.readable:
            unread[c.question] += 1
        elif c.bears:
            votes[c.question][c.comparison.hex()] = 1.0 if (c.s > 0) == after_first[c.comparison] else -1.0
    found: dict[str, Any] = {}
    for question, principle in questions.items():
        cast = list(votes[question].values())
        silent = len(after_first) - len(cast) - unread[question] + int(same_text)
        wins = [(vote + 1) / 2 for vote in cast]
        every = cast + [0.0] * silent
        found[principle.id] = {
            "bears_on": len(cast),
            **(evaluating.bootstrap(wins, work.settings.seed).as_dict() if wins else {}),
            "effect": evaluating.bootstrap(every, work.settings.seed).as_dict() if every else None,
        }
    return found


@step
def promote_or_refuse(
    work: Work, model: str, evaluation: Mapping[str, Any], amendment: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Put the evaluation before the gate; promote, or record why not. Either way a record says who and why.

    After an amendment (`retraining.look`) the model is measured against one that was promoted: it need not be better
    than that, but no worse, and it has to have done what the amendment says.
    """
    store, run = work.store, work.run.id.hex()
    gate, besides = promote.Gate(**work.settings.gate.model_dump()), []
    if amendment is not None:
        floor = min(work.settings.retrain.min_win_rate, gate.min_win_rate)
        controlled = None if gate.min_length_controlled is None else min(floor, gate.min_length_controlled)
        gate = replace(gate, min_win_rate=floor, min_length_controlled=controlled)
        besides = effects.conditions([effects.Effect(**e) for e in amendment["effects"]])
        if not work.settings.retrain.promote:
            besides.append((False, "this run was asked not to promote (retrain.promote)"))
    ratified = store.is_ratified(work.constitution.version)
    decision = promote.decide(gate, evaluation, measure.agreement(work), ratified, besides)
    if decision.promoted and model == work.run.settings["policy"]:
        decision = promote.Decision(
            False, (*decision.reasons, "failed: nothing was trained, so nothing can be promoted")
        )
    payload = {"promoted": decision.promoted, "reasons": list(decision.reasons), "model": model}
    store.put_document("evaluation", run, dict(evaluation))
    store.put_document("decision", run, payload)
    if decision.promoted:
        checkpoint: Checkpoint = store.checkpoint(model)
        store.promote(
            checkpoint, who=work.who, why=f"run {run[:12]} passed its gate", key=f"run:{run}", evidence=payload
        )
        point(work.home / "promoted", Path(checkpoint.path))
    return payload


@step
def report(
    work: Work,
    labels: Mapping[str, Any],
    reward: Mapping[str, Any],
    model: str,
    evaluation: Mapping[str, Any],
    decision: Mapping[str, Any],
    amendment: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The run's result, its report as one HTML file, and a table where Prefect's users look for one."""
    from flows import rounds
    from flows.reporting import publish, save_report  # templates and plots, which only this step needs

    metrics = reward.get("metrics", {})
    truth = evaluation["truth"]
    result = {
        "run": work.run.id.hex(),
        "constitution": work.constitution.version,
        "judge": {k: labels["judge"][k] for k in ("gold_accuracy", "position_consistency", "unreadable_rate")},
        "reward_model": {
            "heldout_accuracy": metrics.get("eval_accuracy"),
            "gold_accuracy": measure.reward(work, work.wiring.judge(work.settings.judge), reward),
            "ece": metrics.get("eval_ece"),
        },
        "labels": {k: labels["labels"][k] for k in ("gold_accuracy", "count", "tied", "unreadable")},
        **{
            name: {k: v for k, v in truth[name].items() if k != "themes"}
            | {"mean_tokens": evaluation[name]["mean_tokens"]}
            for name in ("before", "after")
        },
        "win_rate": evaluation["win_rate"],
        "promoted": decision["promoted"],
        "reasons": decision["reasons"],
        "calls": work.budget.as_dict(),
        "seconds": work.clock(),
        "model": model,
        **({"amendment": dict(amendment)} if amendment is not None else {}),
        **({"rounds": found} if (found := rounds.told(work)) else {}),
        **({"watch": seen} if (seen := _watched(work, model)) else {}),
    }  # fmt: skip
    details = {"labels": labels, "reward": reward, "evaluation": evaluation, "decision": decision}
    result["report"] = str(save_report(work, result, details))
    work.store.finish_run(work.run.id, "finished", result=result)
    publish(result)
    return result


def _watched(work: Work, model: str) -> dict[str, Any]:
    """What the watch of an online training said, from the checkpoint's metrics; nothing where nobody looked."""
    made = next((c for c in work.store.checkpoints() if c.path == model), None)
    metrics = made.metrics if made is not None else {}
    names = ("stopped", "reason", "stopped_step", "kept_step", "steps")
    return {name: metrics[f"watch_{name}"] for name in names} if "watch_stopped" in metrics else {}


@step
def import_pairs(work: Work, stage: str) -> dict[str, str]:
    """The pairs of the file that the settings name, as comparisons. Returns, by comparison (hex), which side the file
    prefers (`first`, `second`), empty for unlabelled pairs."""
    path = Path(work.settings.pairs)
    kind = pair_kind(path)
    rows = read_rows(path, kind, heldout=work.settings.splits.heldout, dev=work.settings.splits.dev)
    work.store.add_prompts([row.prompt for row in rows])
    work.store.add_answers([text for row in rows for text in row.answers])
    preferred: dict[str, str] = {}
    comparisons: dict[Id, Comparison] = {}
    for row in rows:
        one, other = (text_digest(text) for text in row.answers)
        comparison = Comparison.of(row.prompt.id, one, other)
        comparisons[comparison.id] = comparison
        preferred[comparison.id.hex()] = "" if kind == "pairs" else "first" if comparison.first == one else "second"
    work.store.add_comparisons(
        list(comparisons.values()), run=work.run.id, stage=stage, ordinals=list(range(len(comparisons)))
    )
    return preferred


@step
def judge_pairs(work: Work, stage: str, preferred: Mapping[str, str]) -> dict[str, Any]:
    """The judge's labels of imported pairs, and where the file says which is better, how often the judge agrees."""
    judge = work.wiring.judge(work.settings.judge)
    ids = work.members(stage)
    work.ask_judge(stage, judge, ids)
    found = _stop_if_unreadable(work, judge, ids)
    labels = work.labels(judge, ids)
    names = {True: "first", False: "second"}
    said = [(names[x.preferred_first], preferred[i.hex()]) for i, x in labels.items() if x.preferred_first is not None]
    right = [float(ai == human) for ai, human in said if human]
    principles = {judge.question(p).id: p.id for p in work.constitution.principles}
    return {
        "labels": labelling.counts(list(labels.values())),
        "agrees_with_file": evaluating.bootstrap(right).as_dict() if right else None,
        "consistency": {principles[q]: asdict(c) for q, c in found.items()},
    }


@step
def finish(work: Work, **found: Any) -> dict[str, Any]:
    """The result of a flow that is not the whole loop."""
    result = {"run": work.run.id.hex(), **found, "calls": work.budget.as_dict(), "seconds": work.clock()}
    work.store.finish_run(work.run.id, "finished", result=result)
    return result
