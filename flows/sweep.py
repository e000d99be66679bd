"""Several methods, each at several KL coefficients, from one model, one set of labels and one reward: which buys
how much, at what distance from where it started, and where it is bought by hacking the reward.

What is learnt from is asked for once; each further point costs its training and its measurement.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import steps
from flows.improve import answer_and_compare, learn_from_revisions
from flows.session import at_work
from service.work import frontier
from service.work.progress import Progress


@flow(name="sweep", description="Methods and their KL coefficients, side by side.", validate_parameters=False)
def sweep(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """One sweep over `settings.sweep`. Returns the points that `precept sweep --json` prints, the start and the SFT
    model among them, and the path of the picture."""
    with at_work("sweep", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        steps.look_ahead(work)
        plan = frontier.plan(work.settings)
        policy = steps.start_model(work)
        steps.try_judges(work)
        sft = learn_from_revisions(work, policy)
        answer_and_compare(work, sft)
        labels = steps.label(work, "feedback", heldout="held-out feedback")
        reward = steps.train_reward_models(work, "reward model", parent=sft, labels=labels)

        points = [
            steps.measure(work, "start", policy, policy, sft, reward),
            steps.measure(work, "sft", sft, policy, sft, reward),
        ]
        for settings, name in plan:
            model = steps.optimise(work, name, parent=sft, labels=labels, reward=reward, settings=settings)
            points.append(steps.measure(work, name, model, policy, sft, reward, settings))
        return steps.finish(work, points=points, picture=steps.draw(work, points))
