"""Labelling what an amendment made unknown, and no more: ratifying asks no model, so this follows, here or on a worker.

Labels are a query over verdicts. Once the missing ones are stored, whoever looks at labels under the new constitution
sees all of them, and a retrain finds them there.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import steps
from flows.session import at_work
from service.work.progress import Progress


@flow(name="relabel", description="Ask the verdicts that an amendment made missing.", validate_parameters=False)
def relabel(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """The pool's labels under the ratified constitution (`retrain.base` names another run, `retrain.version` another
    constitution). Only verdicts that are not stored are asked; where none is missing, no model is.
    Another judge than the base's is tried first."""
    with at_work("relabel", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        steps.try_if_another(work)
        comparisons = steps.take_over(work)
        found = steps.label(work, "feedback", heldout="held-out feedback")
        base = work.settings.retrain.base
        return steps.finish(work, base=base, comparisons=comparisons, labels=found["labels"], judge=found["judge"])
