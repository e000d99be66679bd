"""Have the policy answer, criticise and revise, and the judge say which revisions are better."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import steps
from flows.session import at_work
from service.work.progress import Progress


@flow(name="revise", description="Critique and revision chains, judged.", validate_parameters=False)
def revise(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """The supervised data of Constitutional AI (arXiv 2212.08073, section 3), without training on it."""
    with at_work("revise", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        policy = steps.start_model(work)
        steps.respond(work, "answers", policy, split="train")
        revisions = steps.revise(work, "revisions", of="answers")
        better = steps.judge_revisions(work, "revisions")
        return steps.finish(work, revisions=revisions, better=len(better["better"]), judged=better["candidates"])
