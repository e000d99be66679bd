"""The whole loop: a model answers, criticises and revises itself, an AI judge labels, and a better model is promoted.

Read this first. It is Constitutional AI (arXiv 2212.08073) from top to bottom: the supervised stage (section 3), AI
feedback and preference training (section 4), and then what a team needs to believe it: a measurement on held-out
prompts by a judge that made none of the labels, and a gate that promotes or says why not.

Each step is a Prefect task that finds its input in the store and leaves its output there, so that running this again
is going on with it. What a step does is in `service/work/stages.py` and its neighbours; how a batch is asked, stored
and counted, in `service/work/gather.py`.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import rounds, steps
from flows.session import at_work
from service.work.progress import Progress
from service.work.work import Work


def learn_from_revisions(work: Work, policy: str) -> str:
    """Supervised: the policy answers, criticises its answers against drawn principles, and revises them; it is trained
    on the revisions that the judge finds better. Returns the SFT model."""
    steps.respond(work, "answers", policy, split="train")
    steps.revise(work, "revisions", of="answers")
    better = steps.judge_revisions(work, "revisions")
    return steps.train_on_revisions(work, "sft", parent=policy, better=better)


def answer_and_compare(work: Work, sft: str) -> None:
    """The tuned model answers again, several times to a prompt, and pairs of its answers are put up for judging."""
    steps.respond(work, "samples", sft, split="train", samples=work.settings.compare.samples)
    steps.respond(work, "held-out samples", sft, split="heldout", samples=2, most=150)
    steps.compare(work, "feedback", samples="samples", revisions="revisions")
    steps.compare(work, "held-out feedback", samples="held-out samples")


@flow(name="improve", description="Make a model better by its constitution, and prove it.", validate_parameters=False)
def improve(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """One run of the loop. `file`: settings; `flags`: dotted settings that override it. Returns the result that
    `precept improve --json` prints; a run that is finished returns it at once and asks no model anything."""
    with at_work("improve", file, flags, who, report) as work:
        if work.finished:
            return work.finished

        steps.look_ahead(work)
        policy = steps.start_model(work)
        steps.try_judges(work)
        sft = learn_from_revisions(work, policy)
        answer_and_compare(work, sft)

        # AI feedback: a judge says which answers follow the principles better, and a policy is trained on that.
        labels = steps.label(work, "feedback", heldout="held-out feedback")
        reward = steps.train_reward_models(work, "reward model", parent=sft, labels=labels)
        tuned = steps.optimise(work, "policy", parent=sft, labels=labels, reward=reward)

        # And again, as often as is asked: the tuned model answers, is judged and trained, while that helps.
        for number in range(2, work.settings.rounds + 1):
            found = rounds.another(work, number, sft, tuned, labels)
            if not rounds.helped(work, number, first=policy, last=tuned, new=found.model):
                break
            labels, reward, tuned = found.labels, found.reward, found.model

        # Measured: before against after, on held-out prompts, by a judge that made none of the labels.
        evaluation = steps.evaluate(work, "evaluation", before=policy, sft=sft, after=tuned)
        decision = steps.promote_or_refuse(work, tuned, evaluation)
        return steps.report(work, labels, reward, tuned, evaluation, decision)
