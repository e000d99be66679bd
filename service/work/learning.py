"""The training steps of the flows: what a method learns from, what rewards it, and what measures it while it learns.

A method says by its columns what it takes: revisions, preferences, good and bad answers, or prompts that it answers
itself. The first are labels that are stored; the last need a reward, which by default is what the reward models of
this run make of an answer, and an evaluation callback: the evaluator, on prompts of the development split.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import PROBABILITY, Generation, Id, Label, split_group
from constitution.streams import AT_ONCE, Ids, batched, parts
from pipeline import assemble, trainers
from pipeline.compare import whole
from pipeline.respond import respond as plan_responses
from pipeline.sources import rows as reading
from pipeline.sources.file import located
from service.queries.rulings import Whose
from service.settings import OptimiseSettings, RewardSettings
from service.work.roles import role_of
from service.work.unseen import unseen
from service.work.work import Work
from storage.artifacts import write_text
from storage.evidence import SLICE


def train_on_revisions(work: Work, stage: str, parent: str, better: Mapping[str, Any]) -> str:
    """SFT on the revisions that the judge found better, helpful answers mixed in (CAI section 3.2)."""
    revisions, fine = better["better"], Ids(better["fine"]).in_order()
    learnt = Ids(itertools.chain(revisions, fine[: round(work.settings.sft.helpful * len(revisions))]))
    if not learnt:
        work.log("no revision is better than its answer by the judge: training starts from the policy as it is")
        work.untrained.append("no revision is better than its answer by the judge")
        return parent
    return work.train(stage, work.settings.sft, parent, work.data_set(_completions(work, learnt))).path


def _completions(work: Work, answers: Ids) -> Iterator[assemble.Row]:
    for some in parts(answers):
        found = work.store.generations(some)
        prompts = work.prompts_by_id(g.prompt for g in found)
        yield from assemble.completions([(prompts[g.prompt], g.text) for g in found])


def train_reward_models(
    work: Work, stage: str, parent: str, labels: Mapping[str, Any], settings: RewardSettings | None = None
) -> dict[str, Any]:
    """Bradley-Terry reward models on the soft labels, with their accuracy and calibration on held-out prompts.

    Returns the first one's `path`, `metrics`, `heldout` comparisons and accuracy on pairs that it never saw (`unseen`),
    and all `paths`; nothing where no comparison is decided."""
    settings = settings or work.settings.reward
    rows = work.data_set(_with_people(work, settings, preferences(work, labels["train"], "train")))
    if not rows.rows:
        return {}
    asked = Ids()  # in the order of the rows
    heldout = work.data_set(_noted(preferences(work, labels["heldout"], "heldout"), asked))
    trained = [
        work.train(
            stage if number == 0 else f"{stage} {number + 1}", settings, parent, rows, heldout,
            seed=work.settings.seed + number,
        )
        for number in range(settings.models)
    ]  # fmt: skip
    return {
        "path": trained[0].path,
        "paths": [checkpoint.path for checkpoint in trained],
        "metrics": dict(trained[0].metrics),
        "unseen": unseen(work, [trained[0].path]),
        "heldout": asked,
    }


def _noted(rows: Iterable[assemble.Row], comparisons: Ids) -> Iterator[assemble.Row]:
    for row in rows:
        comparisons.append(bytes.fromhex(row["comparison"]))
        yield row


def optimise(
    work: Work,
    stage: str,
    parent: str,
    labels: Mapping[str, Any],
    reward: Mapping[str, Any],
    settings: OptimiseSettings | None = None,
) -> str:
    """The policy trained on the preferences (by DPO, or the method the settings name), or, online, on answers of its
    own. Returns the new model, or the parent where there is nothing to learn from."""
    settings = settings or work.settings.optimise
    given = settings.model_copy(
        update={"arguments": {**work.settings.arguments.get(settings.method, {}), **settings.arguments}}
    )
    method = trainers.load(given.method)
    if method.KIND != "policy":
        raise UserError(f"optimise.method is {given.method!r}, which trains a {method.KIND.replace('_', ' ')}")
    if getattr(method, "ONLINE", False):
        rewarded = reward_of(work, reward, given)
        if rewarded is None:
            work.log("there is no reward model: there is nothing to train a policy on")
            work.untrained.append("no comparison is decided, so that there is no reward model")
            return parent
        # What the model cannot be asked would sink the training: a prompt that was left out before is left out here.
        unanswered = {o.prompt for o in work.left_out.everything if o.what == "answer"}
        asked = (p for p in work.prompts("train") if p.id not in unanswered)
        rows = work.data_set(row for prompt in asked for row in assemble.prompts([prompt]))
        return work.train(
            stage, given, parent, rows, reward=rewarded, watch=evaluation_callback(work, stage, parent)
        ).path
    rows = work.data_set(_rows(work, given, method.COLUMNS, labels["train"]))
    if not rows.rows:
        work.log("no comparison is decided: there is nothing to train a policy on")
        work.untrained.append("no comparison is decided")
        return parent
    return work.train(stage, given, parent, rows).path


# --- what is learnt from -----------------------------------------------------------------------------------------


def _rows(
    work: Work, settings: OptimiseSettings, columns: Sequence[str], comparisons: Sequence[Id]
) -> Iterable[assemble.Row]:
    """The rows of an offline method, in its columns. One that reads no `p` takes a pair as known; it learns from those
    alone whose label does not rest on verdicts that change with the order."""
    known = "p" not in columns
    pairs = preferences(work, comparisons, "train", settings.labels, steady=known and settings.labels != "people")
    if "chosen" in columns:
        return pairs
    if "label" in columns:
        return assemble.unpaired(pairs, settings.min_p)
    return ({"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs if row["p"] >= settings.min_p)


def preferences(
    work: Work, comparisons: Sequence[Id], split: str, whose: str = "judge", steady: bool = False
) -> Iterator[assemble.Row]:
    """Preference rows of the decided comparisons of a split, in the order of the comparisons' ids, by the judge's
    labels or by people's spot checks. `steady`: without those whose label rests on verdicts that change with the
    order, which are counted."""
    of_run = None if whose != "people" else _people(work)
    count = lost = 0
    for labels in _labels(work, comparisons) if of_run is None else [of_run]:
        known = work.steady(work.wiring.judge(work.settings.judge), labels) if steady else labels.keys()
        for some in batched(labels.values(), AT_ONCE):
            decided = [label for label in some if label.preferred_first is not None]
            cases = work.cases([label.comparison for label in decided])
            prompts = work.prompts_by_id(case.comparison.prompt for case in cases.values())
            splits = {id: prompt.split for id, prompt in prompts.items()}
            for row in assemble.preferences(decided, cases, splits, split):
                stays = bytes.fromhex(row["comparison"]) in known
                count, lost = count + 1, lost + (not stays)
                if stays:
                    yield row
    if lost:
        work.log(
            f"{lost} of {count} labels rest on verdicts that change with the order: this method "
            "reads no probability, so it does not learn from them"
        )


def _labels(work: Work, comparisons: Sequence[Id]) -> Iterator[dict[Id, Label]]:
    """The judge's labels, some at a time, in the order of the comparisons' ids."""
    judge = work.wiring.judge(work.settings.judge)
    for some in batched(work.labelled(judge, comparisons), SLICE):
        yield {label.comparison: label for label in some}


def _people(work: Work) -> dict[Id, Label]:
    """What people said, as labels: of each comparison on this run's prompts the mean of its spot checks, a tie a half.
    Raises UserError where nobody said anything."""
    of_run = set(work.members("prompts"))
    said: dict[Id, list[float]] = {}
    for check in work.store.spot_checks():
        if check.share is not None:
            said.setdefault(check.comparison, []).append(check.share)
    means = {i: sum(values) / len(values) for i, values in said.items()}
    known = {c.comparison.id for c in work.store.pairs(list(means)) if c.comparison.prompt in of_run}
    if not known:
        raise UserError(
            'optimise.labels is "people", and nobody has answered a spot check on these prompts: `precept review` first'
        )
    return {
        i: Label(i, "tied" if p == 0.5 else "decided", round(p * PROBABILITY))
        for i, p in sorted(means.items())
        if i in known
    }


def _with_people(work: Work, settings: RewardSettings, rows: Iterable[assemble.Row]) -> Iterator[assemble.Row]:
    """People's preferences blended in, where there are rows. What they say of a prompt that this run holds out stays
    out."""
    ours = 0
    for row in rows:
        ours += 1
        yield row
    if not settings.human or not ours:
        return
    splits = work.settings.splits
    path, names, skip_bad = located(settings.human, "reward.human")
    told = reading.read(path, "preferences", heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, names=names)
    away = {split_group(p.messages) for split in ("dev", "heldout") for p in work.prompts(split)}
    train = [
        row for row in told.rows if row.prompt.split == "train" and split_group(row.prompt.messages) not in away
    ]  # fmt: skip
    human = [
        {
            "prompt": assemble.messages(row.prompt.messages),
            "chosen": assemble.said(row.answers[0]),
            "rejected": assemble.said(row.answers[1]),
            "p": row.p,
        }
        for row in reading.agreed(train)
    ]
    drawn = assemble.drawn_beside(ours, human, settings.human_share, work.settings.seed)
    yield from drawn.rows
    count = len(drawn.rows)
    short = f"; {drawn.missing} more were wanted" if drawn.missing else ""
    work.log(f"{count} of {ours + count} pairs for the reward model are people's, from {path}{short}")
    if len(train) < len(told.rows):
        work.log(f"{len(told.rows) - len(train)} of people's pairs open as prompts that are held out, and stay out")


# --- what rewards and what measures ------------------------------------------------------------------------------


def reward_of(work: Work, reward: Mapping[str, Any], settings: OptimiseSettings) -> dict[str, Any] | None:
    """What `pipeline.rewards` builds the reward from: the settings', their gaps filled from this run. None where it
    would be this run's reward models and there are none."""
    kind = settings.reward.get("kind", "model")
    if kind == "model" and "paths" not in settings.reward:
        if not reward:
            return None
        return {"kind": "model", **settings.reward, "paths": list(reward["paths"])}
    if kind == "judge" and "engine" not in settings.reward:
        against = _answers_file(work, "samples", work.generations("samples"))
        return {**judge_spec(work, "judge", against), **settings.reward}
    if kind == "rule" and not {"checks", "constitution"} & settings.reward.keys():
        return {**settings.reward, "constitution": str(_constitution(work))}
    return work.wiring.resolved_reward(settings.reward)


def evaluation_callback(work: Work, stage: str, parent: str) -> dict[str, Any] | None:
    """`watch` of a job: the evaluator compares the policy's answers to the development prompts with the parent's."""
    settings = work.settings.watch
    prompts = work.prompts("dev", settings.prompts)
    if settings.prompts and work.wiring.code_measures:
        work.log("the evaluator has no model: the training has no evaluation callback (evaluator.model)")
        return None
    if not prompts:
        if settings.prompts:
            work.log("no prompt is in the development split: the training has no evaluation callback (splits.dev)")
        return None
    role = role_of(work, parent)
    asks = plan_responses(prompts, role, seed=work.settings.seed)
    answers = work.gather(f"{stage}.watch", asks, role, work.settings.policy.batch_size)
    found = [g for g in answers if g is not None]
    if not found:
        work.log("no prompt of the development split could be answered: the training has no evaluation callback")
        return None
    against = _answers_file(work, "watch", found)
    judge = judge_spec(work, "evaluator", against)
    how = {"every": settings.every, "kl_budget": settings.kl_budget or None, "stop": settings.stop}
    return {"dataset": against, "judge": judge, **how}


def judge_spec(work: Work, whose: Whose, against: str) -> dict[str, Any]:
    """The judge, or the evaluator, as a reward, under this run's constitution and what its trial decided."""
    settings = getattr(work.settings, whose)
    return work.wiring.judge_spec(settings, _constitution(work), against, work.ruling(whose))


def _constitution(work: Work) -> Path:
    """This run's constitution as a file."""
    path = work.home / "datasets" / f"constitution-{work.constitution.version[:16]}.yaml"
    write_text(path, work.constitution.source)
    return path


def _answers_file(work: Work, name: str, answers: Iterable[Generation]) -> str:
    """A data set of prompts, each with the first answer it was given, named by its content. One that was cut, or is
    empty, stands only for a prompt that has no other: to beat it is too easy. Answers to one prompt come together."""
    by_tag = any(p.when is not None and p.when.tags for p in work.constitution)

    def rows() -> Iterator[assemble.Row]:
        by_prompt = (list(some) for _, some in itertools.groupby(answers, lambda g: g.prompt))
        for some in batched((next(iter(whole(given)), given[0]) for given in by_prompt), AT_ONCE):
            prompts = work.prompts_by_id(g.prompt for g in some)
            for g in some:
                tags = {"tags": list(prompts[g.prompt].tags)} if by_tag else {}
                yield {"prompt": assemble.messages(prompts[g.prompt].messages), "answer": g.text, **tags}

    return str(work.data_set(rows(), f"{name}-").path)
