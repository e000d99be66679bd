"""The steps of the flows, each a Prefect task around what the service does: ids in between, no texts.

What a step does is in `service/work`; what a step is, in `flows/step.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import artifacts
from prefect.context import FlowRunContext, TaskRunContext

from flows.step import step
from service.work import after_amendment, deciding, evaluation, frontier, learning, pairs, stages, trial
from service.work.work import Work

start_model = step(stages.start_model)
look_ahead = step(stages.look_ahead)
try_judges = step(trial.try_judges)
try_judge = step(trial.try_judge)
try_if_another = step(trial.try_if_another)
respond = step(stages.respond)
revise = step(stages.revise)
judge_revisions = step(stages.judge_revisions)
compare = step(stages.compare)
label = step(stages.label)
import_pairs = step(pairs.import_pairs)
judge_pairs = step(pairs.judge_pairs)

train_on_revisions = step(learning.train_on_revisions)
train_reward_models = step(learning.train_reward_models)
optimise = step(learning.optimise)

evaluate = step(evaluation.evaluate)
promote_or_refuse = step(deciding.promote_or_refuse)
finish = step(deciding.finish)

standing = step(after_amendment.standing)
take_over = step(after_amendment.take_over)
top_up = step(after_amendment.top_up)
removed = step(after_amendment.removed)
look = step(after_amendment.look)

measure = step(frontier.measure)


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
    from service.pictures.report import save_report  # templates and plots, which only this step needs

    result = deciding.result_of(work, labels, reward, model, evaluation, decision, amendment)
    told = {"labels": labels, "reward": reward, "evaluation": evaluation, "decision": decision, "budget": work.budget}
    result["report"] = str(save_report(work, result, told))
    work.store.finish_run(work.run.id, "finished", result=result)
    publish(result)
    return result


@step
def draw(work: Work, points: Sequence[Mapping[str, Any]]) -> str | None:
    """The frontier of a sweep as an SVG file in the run's folder; its path."""
    from service.pictures.frontier import save

    return save(work.folder, points)


def publish(result: Mapping[str, Any]) -> None:
    """The before/after table as an artifact of the Prefect run; nothing where there is none.

    The run is finished and stored by now, so a server that cannot be reached is a warning.
    """
    from service.pictures.report import headline, markdown

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    try:
        artifacts.create_markdown_artifact(
            key="precept-before-after", markdown=markdown(result), description=headline(result)
        )
    except Exception as error:
        logging.getLogger(__name__).warning("the before/after table could not be put on the Prefect server: %s", error)
