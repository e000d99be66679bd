"""The training steps of the flows: what a method learns from, what rewards it, and what measures it while it learns.

A method says by its columns what it takes: revisions, preferences, good and bad answers, or prompts that it answers
itself. The first are labels that are stored; the last need a reward, which by default is what the reward models of
this run make of an answer, and an evaluation callback: the evaluator, on prompts of the development split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import PROBABILITY, Generation, Id, Label, split_group
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


def train_on_revisions(work: Work, stage: str, parent: str, better: Mapping[str, Any]) -> str:
    """SFT on the revisions that the judge found better, helpful answers mixed in (CAI section 3.2)."""
    prompts = {p.id: p for p in work.prompts("train")}
    revisions = work.store.generations(better["better"])
    helpful = sorted(work.store.generations(better["fine"]), key=lambda g: g.id)
    helpful = helpful[: round(work.settings.sft.helpful * len(revisions))]
    rows = assemble.completions([(prompts[g.prompt], g.text) for g in (*revisions, *helpful)])
    if not rows:
        work.log("no revision is better than its answer by the judge: training starts from the policy as it is")
        work.untrained.append("no revision is better than its answer by the judge")
        return parent
    return work.train(stage, work.settings.sft, parent, rows).path


def train_reward_models(
    work: Work, stage: str, parent: str, labels: Mapping[str, Any], settings: RewardSettings | None = None
) -> dict[str, Any]:
    """Bradley-Terry reward models on the soft labels, with their accuracy and calibration on held-out prompts.

    Returns the first one's `path`, `metrics`, `heldout` comparisons and accuracy on pairs that it never saw (`unseen`),
    and all `paths`; nothing where no comparison is decided."""
    settings = settings or work.settings.reward
    train, heldout = (
        preferences(work, labels[key], split) for key, split in (("train", "train"), ("heldout", "heldout"))
    )
    if not train:
        return {}
    rows = _with_people(work, settings, train)
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
        "heldout": [row["comparison"] for row in heldout],
    }


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
        rows = assemble.prompts([p for p in work.prompts("train") if p.id not in unanswered])
        return work.train(
            stage, given, parent, rows, reward=rewarded, watch=evaluation_callback(work, stage, parent)
        ).path
    rows = _rows(work, given, method.COLUMNS, labels["train"])
    if not rows:
        work.log("no comparison is decided: there is nothing to train a policy on")
        work.untrained.append("no comparison is decided")
        return parent
    return work.train(stage, given, parent, rows).path


# --- what is learnt from -----------------------------------------------------------------------------------------


def _rows(work: Work, settings: OptimiseSettings, columns: Sequence[str], comparisons: Sequence[Id]) -> Any:
    """The rows of an offline method, in its columns. One that reads no `p` takes a pair as known; it learns from those
    alone whose label does not rest on verdicts that change with the order."""
    pairs = preferences(work, comparisons, "train", settings.labels)
    if "p" in columns:
        return pairs
    if settings.labels != "people":
        pairs = _steady(work, comparisons, pairs)
    if "chosen" in columns:
        return pairs
    if "label" in columns:
        return assemble.unpaired(pairs, settings.min_p)
    sure = [row for row in pairs if row["p"] >= settings.min_p]
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in sure]


def _steady(work: Work, comparisons: Sequence[Id], pairs: Sequence[assemble.Row]) -> list[assemble.Row]:
    judge = work.wiring.judge(work.settings.judge)
    steady = {id.hex() for id in work.steady(judge, work.labels(judge, comparisons))}
    kept = [row for row in pairs if row["comparison"] in steady]
    if len(kept) < len(pairs):
        work.log(
            f"{len(pairs) - len(kept)} of {len(pairs)} labels rest on verdicts that change with the order: this method "
            "reads no probability, so it does not learn from them"
        )
    return kept


def preferences(work: Work, comparisons: Sequence[Id], split: str, whose: str = "judge") -> list[assemble.Row]:
    """Preference rows of the decided comparisons of a split, by the judge's labels or by people's spot checks."""
    splits = {p.id: p.split for p in work.store.prompts(ids=work.members("prompts"))}
    if whose == "people":
        labels: Sequence[Label] = _people(work)
        comparisons = [label.comparison for label in labels]
    else:
        labels = list(work.labels(work.wiring.judge(work.settings.judge), comparisons).values())
    return assemble.preferences(labels, work.cases(comparisons), splits, split)


def _people(work: Work) -> list[Label]:
    """What people said, as labels: of each comparison on this run's prompts the mean of its spot checks, a tie a half.
    Raises UserError where nobody said anything."""
    of_run = set(work.members("prompts"))
    said: dict[Id, list[float]] = {}
    for check in work.store.spot_checks():
        if check.answer != "skip":
            said.setdefault(check.comparison, []).append({"first": 1.0, "second": 0.0, "tie": 0.5}[check.answer])
    means = {i: sum(values) / len(values) for i, values in said.items()}
    known = {c.comparison.id for c in work.store.pairs(list(means)) if c.comparison.prompt in of_run}
    if not known:
        raise UserError(
            'optimise.labels is "people", and nobody has answered a spot check on these prompts: `precept review` first'
        )
    return [
        Label(i, "tied" if p == 0.5 else "decided", round(p * PROBABILITY))
        for i, p in sorted(means.items())
        if i in known
    ]


def _with_people(work: Work, settings: RewardSettings, rows: list[assemble.Row]) -> list[assemble.Row]:
    """People's preferences blended in. What they say of a prompt that this run holds out stays out."""
    if not settings.human:
        return rows
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
    blended = assemble.blend(rows, human, settings.human_share, work.settings.seed)
    count = len(blended.rows) - len(rows)
    short = f"; {blended.missing} more were wanted" if blended.missing else ""
    work.log(f"{count} of {len(blended.rows)} pairs for the reward model are people's, from {path}{short}")
    if len(train) < len(told.rows):
        work.log(f"{len(told.rows) - len(train)} of people's pairs open as prompts that are held out, and stay out")
    return blended.rows


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


def _answers_file(work: Work, name: str, answers: Sequence[Generation]) -> str:
    """A data set of prompts, each with the first answer it was given, named by its content. One that was cut, or is
    empty, stands only for a prompt that has no other: to beat it is too easy."""
    prompts = {p.id: p for p in work.store.prompts(ids=list({g.prompt for g in answers}))}
    first = dict.fromkeys((g.prompt for g in answers), "")
    for given in (answers, whole(answers)):
        for g in reversed(given):
            first[g.prompt] = g.text
    by_tag = any(p.when is not None and p.when.tags for p in work.constitution)
    rows = [
        {
            "prompt": assemble.messages(prompts[i].messages),
            "answer": text,
            **({"tags": list(prompts[i].tags)} if by_tag else {}),
        }
        for i, text in first.items()
    ]
    path = work.home / "datasets" / f"{name}-{assemble.dataset_digest(rows)[:16]}.jsonl"
    write_text(path, assemble.write(rows))
    return str(path)
