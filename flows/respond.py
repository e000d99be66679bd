"""Have the policy answer the training prompts, and nothing else."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import stages
from flows.session import at_work


@flow(name="respond", description="Answers of the policy to the training prompts.", validate_parameters=False)
def respond(file: str | None = None, flags: dict[str, Any] | None = None) -> dict[str, Any]:
    """Answers that a later `revise` or `improve` with the same settings finds in the store."""
    with at_work("respond", file, flags) as work:
        if work.finished:
            return work.finished
        policy = stages.start_model(work)
        answers = stages.respond(work, "answers", policy, split="train")
        return stages.finish(work, answers=answers)
