"""Retraining after an amendment: the model that follows from the new constitution, without asking again what is known.

By default the pool of answers and the SFT model of the run before stay. Labels are a query over verdicts, so only those
on new questions are asked; the reward model and the policy are trained again from the right parent, and the new policy
is measured against the one it would replace, on the whole held-out set.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import learning, retraining, stages
from flows.improve import answer_and_compare, learn_from_revisions
from flows.retraining import nothing_to_do
from flows.session import at_work


@flow(name="retrain", description="Follow an amendment of the constitution.", validate_parameters=False)
def retrain(file: str | None = None, flags: dict[str, Any] | None = None) -> dict[str, Any]:
    """One retrain under the ratified constitution. `file`: settings; `flags`: dotted settings that override it. Returns
    the result that `precept retrain --json` prints; one that is finished returns it at once and asks nothing. In a slot
    of a schedule in which there is nothing to retrain: `nothing_to_do`, the reason, and no run."""
    if idle := nothing_to_do(file, flags):
        return idle
    with at_work("retrain", file, flags) as work:
        if work.finished:
            return work.finished
        settings = work.settings.retrain
        stages.look_ahead(work)
        model = retraining.standing(work)

        if settings.start == "pool":
            sft = model["sft"]
            retraining.take_over(work)
            if settings.top_up:
                retraining.top_up(work, "top-up", sft)
        else:
            sft = learn_from_revisions(work, model["policy"])
            answer_and_compare(work, sft)

        parent = model["last"] if settings.train_from == "last" else sft
        labels = stages.label(work, "feedback", heldout="held-out feedback")
        reward = learning.train_reward_models(work, "reward model", parent=parent, labels=labels)
        tuned = learning.optimise(work, "policy", parent=parent, labels=labels, reward=reward)

        gone = retraining.removed(work)
        evaluation = stages.evaluate(work, "evaluation", before=model["last"], after=tuned, besides=gone)
        amendment = retraining.look(work, evaluation)
        decision = stages.promote_or_refuse(work, tuned, evaluation, amendment)
        return stages.report(work, labels, reward, tuned, evaluation, decision, amendment)
