"""Have the policy answer the training prompts, and nothing else."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import steps
from flows.session import at_work
from service.work.progress import Progress


@flow(name="respond", description="Answers of the policy to the training prompts.", validate_parameters=False)
def respond(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Answers that a later `revise` or `improve` with the same settings finds in the store."""
    with at_work("respond", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        policy = steps.start_model(work)
        answers = steps.respond(work, "answers", policy, split="train")
        return steps.finish(work, answers=answers)
