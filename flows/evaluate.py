"""Measure one model against another on held-out prompts, without training or promoting anything."""

from __future__ import annotations

from typing import Any

from prefect import flow

from constitution.errors import UserError
from flows import stages
from flows.session import at_work


@flow(name="evaluate", description="One model against another on held-out prompts.", validate_parameters=False)
def evaluate(file: str | None = None, flags: dict[str, Any] | None = None) -> dict[str, Any]:
    """`settings.evaluate.candidate` (a folder, a checkpoint's name, `promoted`) against the policy."""
    with at_work("evaluate", file, flags) as work:
        if work.finished:
            return work.finished
        if not work.settings.evaluate.candidate:
            raise UserError("name the model to measure: precept evaluate MODEL")
        policy = stages.start_model(work)
        candidate = work.wiring.resolve(work.settings.evaluate.candidate)
        return stages.finish(work, **stages.evaluate(work, "evaluation", before=policy, after=candidate))
