"""Before against after, on prompts that no training file has seen, by a judge that made none of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import Generation, Id, Prompt
from pipeline import label, suites
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Judge
from pipeline.metrics import effects, intervals, style, win_rate
from pipeline.metrics.changes import changes
from pipeline.respond import respond as plan_responses
from pipeline.suites import Evidence, asking, capability
from service.queries import measure
from service.work import trial
from service.work.roles import role_of
from service.work.work import Work


def evaluate(
    work: Work,
    stage: str,
    before: str,
    after: str,
    sft: str | None = None,
    besides: Sequence[str] = (),
    split: str = "heldout",
) -> dict[str, Any]:
    """Before against after on held-out prompts, by a judge that made none of the training labels. The SFT model `sft`
    between them is counted, not judged. `besides`: ids of principles that an amendment took away; the evaluator is
    asked about them too, and its answers have no part in the win rate. What chooses between models looks at the
    `split` dev instead.

    A prompt that one of the two models could not be asked, or whose pair the evaluator could not, is left out for both:
    `omitted` counts them. Raises UserError where no prompt is left."""
    prompts = work.prompts(split, work.settings.evaluate.prompts)
    by_id = {p.id: p for p in prompts}
    found: dict[str, dict[Id, Generation]] = {}
    # "halfway" is the SFT model: stages and evaluations that are stored have the word of before.
    for name, model in (("before", before), ("halfway", sft), ("after", after)):
        if model is not None:
            found[name] = _answers(work, f"{stage}.{name}", model, prompts)
    both = [p.id for p in prompts if p.id in found["before"] and p.id in found["after"]]
    pairs = [(found["before"][i], found["after"][i]) for i in both]
    ids = work.compare(f"{stage}.pairs", pairs)
    evaluator = work.wiring.judge(work.settings.evaluator)
    trial.refuse_moved(work, "evaluator", work.settings.evaluator)
    work.ask_judge(f"{stage}.pairs", evaluator, [i for i in ids if i is not None], whose="evaluator")
    omitted = work.omitted(evaluator, "evaluator")
    kept = [(pair, i) for pair, i in zip(pairs, ids, strict=True) if i not in omitted]
    if prompts and not kept:
        raise UserError(_nothing_left(work, stage))
    pairs, ids = [pair for pair, _ in kept], [i for _, i in kept]
    answers = {"before": [b for b, _ in pairs], "after": [a for _, a in pairs]}
    if sft is not None:
        answers["halfway"] = list(found["halfway"].values())
    answers = {name: answers[name] for name in ("before", "halfway", "after") if name in answers}
    asked = [i for i in ids if i is not None]
    labels = work.labels(evaluator, asked, "evaluator")
    values = win_rate.wins(labels, pairs, ids)
    controlled = win_rate.length_controlled(labels, pairs, ids).as_dict()
    if stage == "evaluation":  # that of the run itself, and not of a round or a point of a sweep
        by_prompt = win_rate.by_prompt(labels, pairs, ids)
        work.store.put_document("wins", work.run.id.hex(), {prompt.hex(): won for prompt, won in by_prompt.items()})
    principles = list(work.heard("evaluator"))
    if besides:
        gone = Constitution("removed", tuple(_before(work)[name] for name in besides))
        if work.wiring.code_measures:  # there is no model to ask
            gone = replace(gone, principles=tuple(p for p in gone if not asks_a_model(evaluator, p)))
        work.ask_judge(f"{stage}.removed", evaluator, asked, constitution=gone)
        principles += gone.principles
    measured: dict[str, Any] = {}
    if split == "heldout":  # what chooses between models on the development split looks at the win rate alone
        seen = Evidence(
            by_id,
            answers["before"],
            answers["after"],
            ids,
            labels,
            work.settings.seed,
            principles=work.constitution.principles,
        )
        names = suites.chosen(work.settings.evaluate.suites)
        own = {
            name: _read(work, name, _of_its_own(work, f"{stage}.{name}", of_suite, before, after))
            for name, of_suite in suites.prompts(names).items()
        } | {name: _scored(work, items, before, after) for name, items in suites.items(names).items()}
        measured = {"suites": suites.as_dict(measure.suites_of(work, names, seen, own))}
    return {
        "prompts": len(prompts),
        "omitted": {"answers": len(prompts) - len(both), "comparisons": len(both) - len(kept)},
        "win_rate": win_rate.summary(values),
        "length_controlled": controlled["mean"],
        "length_controlled_interval": controlled,
        "changes": changes(by_id, answers["before"], answers["after"]),
        "unreadable": win_rate.unreadable(values, pairs),
        "by_principle": _by_principle(work, evaluator, principles, pairs, ids),
        **{name: style.metrics(by_id, given) for name, given in answers.items()},
        "truth": {name: measure.answers(work, by_id, given) for name, given in answers.items()},
        "truth_moved": measure.moved(work, by_id, pairs),
        **measured,
    }


def _of_its_own(work: Work, stage: str, prompts: Sequence[Prompt], before: str, after: str) -> Evidence:
    """Both models' answers to the prompts that a suite has itself, to those that both could be asked."""
    stored = {p.id for p in work.store.prompts(ids=[p.id for p in prompts])}
    work.store.add_prompts(p for p in prompts if p.id not in stored)  # what is the user's keeps the user's tags
    if any(p.split != "heldout" for p in work.store.prompts(ids=[p.id for p in prompts])):
        raise UserError(f"a prompt of the suite of {stage} was stored before as one to train on: it measures nothing")
    old, new = (
        _answers(work, f"{stage}.{name}", model, prompts) for name, model in (("before", before), ("after", after))
    )
    both = [p.id for p in prompts if p.id in old and p.id in new]
    return Evidence({p.id: p for p in prompts}, [old[i] for i in both], [new[i] for i in both], seed=work.settings.seed)


def _scored(work: Work, items: Sequence[suites.Item], before: str, after: str) -> Evidence:
    """How likely both models hold each choice of a suite's questions. It is not stored, and asked again on resume."""
    sides = []
    for model in (before, after):
        work.budget.afford(capability.requests(items))
        found, used = capability.scored(role_of(work, model), items)
        work.budget.judged(used)
        sides.append(found)
    return Evidence({}, (), (), seed=work.settings.seed, items=items, choices=(sides[0], sides[1]))


def _read(work: Work, name: str, seen: Evidence) -> Evidence:
    """With what the evaluator says of each answer, where the settings ask it. It is not stored, and asked again on
    resume."""
    if not work.settings.evaluate.reading:
        return seen
    settings = work.wiring.settled(work.settings.evaluator)
    role, read = work.wiring.role(settings), {}
    for key, asked in suites.questions(name).items():
        sides = []
        for side in (seen.before, seen.after):
            of = [
                at for at, answer in enumerate(side) if not asked.tag or asked.tag in seen.prompts[answer.prompt].tags
            ]
            work.budget.afford(2 * len(of))
            answers = [(seen.prompts[side[at].prompt].messages, side[at].text) for at in of]
            found, used = asking.said(role, asked.question, answers)
            work.budget.judged(used)
            values: list[float | None] = [None] * len(side)
            for at, value in zip(of, found, strict=True):
                values[at] = value
            sides.append(values)
        read[key] = (sides[0], sides[1])
    return replace(seen, read=read)


def _answers(work: Work, stage: str, model: str, prompts: Sequence[Prompt]) -> dict[Id, Generation]:
    """By prompt, the answers of a model to those that it could be asked."""
    role = role_of(work, model)
    asks = plan_responses(prompts, role, seed=work.settings.seed)
    found = work.gather(stage, asks, role, work.settings.policy.batch_size)
    made = [g for g in found if g is not None]
    work.left_out.cut[stage] = sum(g.finish_reason != "stop" for g in made), len(made)
    return {g.prompt: g for g in made}


def _nothing_left(work: Work, stage: str) -> str:
    said = next(o for o in work.left_out.everything if o.stage.startswith(stage)).refused.said
    return f"none of the prompts of the {stage} could be answered by both models and compared by the evaluator: {said}"


def _before(work: Work) -> Constitution:
    """The constitution of the run that a retrain starts from."""
    version = work.store.run(work.settings.retrain.base).constitution or ""
    return loading.parse(work.store.constitution(version) or "", "the base's constitution")


def _by_principle(
    work: Work,
    judge: Judge,
    principles: Sequence[Principle],
    pairs: Sequence[tuple[Generation, Generation]],
    ids: Sequence[Id | None],
) -> dict[str, Any]:
    """For each principle: on how many pairs it votes by the label rule, how often it prefers the answer after there,
    and its `effect` over all prompts (`pipeline.metrics.effects`)."""
    rule, questions = work.rule("evaluator"), {p.id: judge.question(p).id for p in principles}
    everybody = replace(work.ruling("evaluator"), left_out=())
    voices = label.combined(((p, judge.question(p)) for p in principles), everybody)
    after_first = {i: after.content < before.content for (before, after), i in zip(pairs, ids, strict=True) if i}
    same_text = float(sum(i is None for i in ids))
    votes: dict[Id, dict[str, float]] = {q: {} for q in questions.values()}
    unread: Counter[Id] = Counter()
    for c in work.store.contributions(list(after_first), voices, rule):
        if not c.readable:
            unread[c.question] += 1
        elif c.chooses:
            votes[c.question][c.comparison.hex()] = 1.0 if (c.s > 0) == after_first[c.comparison] else -1.0
    found: dict[str, Any] = {}
    for name, question in questions.items():  # two that ask the same are both told of
        cast = list(votes[question].values())
        silent = len(after_first) - len(cast) - unread[question] + int(same_text)
        wins = [(vote + 1) / 2 for vote in cast]
        every = cast + [0.0] * silent
        found[name] = {
            "bears_on": len(cast),
            **(intervals.interval_of(wins).as_dict() if wins else {}),
            "effect": {**intervals.interval_of(every, least=-1.0).as_dict(), **effects.votes(every)} if every else None,
        }
    return found
