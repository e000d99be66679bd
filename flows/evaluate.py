"""Measure one model against another on held-out prompts, without training or promoting anything."""

from __future__ import annotations

from typing import Any

from prefect import flow

from constitution.errors import UserError
from flows import steps
from flows.session import at_work
from service.work.progress import Progress


@flow(name="evaluate", description="One model against another on held-out prompts.", validate_parameters=False)
def evaluate(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """`settings.evaluate.candidate` (a folder, a checkpoint's name, `promoted`) against the policy."""
    with at_work("evaluate", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        if not work.settings.evaluate.candidate:
            raise UserError("name the model to measure: precept model evaluate MODEL")
        policy = steps.start_model(work)
        steps.try_judge(work, "evaluator", work.settings.evaluator)
        candidate = work.wiring.resolve(work.settings.evaluate.candidate)
        return steps.finish(work, **steps.evaluate(work, "evaluation", before=policy, after=candidate))
