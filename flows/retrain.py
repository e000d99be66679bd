"""Retraining after an amendment: the model that follows from the new constitution, without asking again what is known.

By default the pool of answers and the SFT model of the run before stay. Labels are a query over verdicts, so only those
on new questions are asked; the reward model and the policy are trained again from the right parent, and the new policy
is measured against the one it would replace, on the whole held-out set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows import announcing, steps
from flows.improve import answer_and_compare, learn_from_revisions
from flows.session import at_work, scheduled_slot
from flows.telling import note
from service import settings as settings_module
from service.queries.base_run import nothing_to_retrain
from service.work.progress import Progress


@flow(name="retrain", description="Follow an amendment of the constitution.", validate_parameters=False)
def retrain(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """One retrain under the ratified constitution. `file`: settings; `flags`: dotted settings that override it. Returns
    the result that `precept retrain --json` prints; one that is finished returns it at once and asks nothing. In a slot
    of a schedule in which there is nothing to retrain: `nothing_to_do`, the reason, and no run."""
    if scheduled_slot():  # a person is told by an error, a schedule by its result: it ends well, every night
        loaded, _ = settings_module.load(Path(file) if file else None, flags)
        if idle := nothing_to_retrain(loaded):
            note(idle)
            return {"run": None, "nothing_to_do": idle}
    with at_work("retrain", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        settings = work.settings.retrain
        steps.look_ahead(work)
        steps.try_judges(work)
        model = steps.standing(work)

        if settings.start == "pool":
            sft = model["sft"]
            steps.take_over(work)
            if settings.top_up:
                steps.top_up(work, "top-up", sft)
        else:
            sft = learn_from_revisions(work, model["policy"])
            answer_and_compare(work, sft)

        parent = model["last"] if settings.train_from == "last" else sft
        labels = steps.label(work, "feedback", heldout="held-out feedback")
        reward = steps.train_reward_models(work, "reward model", parent=parent, labels=labels)
        tuned = steps.optimise(work, "policy", parent=parent, labels=labels, reward=reward)

        gone = steps.removed(work)
        evaluation = steps.evaluate(work, "evaluation", before=model["last"], after=tuned, besides=gone)
        amendment = steps.look(work, evaluation)
        decision = steps.promote_or_refuse(work, tuned, evaluation, amendment)
        if decision["proposed"] and (proposal := work.store.proposal()) is not None:
            announcing.proposed(proposal, work.settings.store.get_secret_value())
        return steps.report(work, labels, reward, tuned, evaluation, decision, amendment)
