"""Labelling what an amendment made unknown, and no more: ratifying asks no model, so this follows, here or on a worker.

Labels are a query over verdicts. Once the missing ones are stored, whoever looks at labels under the new constitution
sees all of them, and a retrain finds them there.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from constitution.errors import UserError
from flows import pool, retraining, stages
from flows.retraining import Retraining
from flows.session import at_work
from storage.runs import Run


class Relabelling(Retraining):
    """A retrain's wiring, for the pool of the newest run of the loop, whatever its model lives by."""

    def begin_from(self, version: str, name: str) -> Run:
        found = pool.find(self.store, name).run
        if found is None:
            raise UserError("there is no finished run with labels: `precept improve` makes the first")
        return found


@flow(name="relabel", description="Ask the verdicts that an amendment made missing.", validate_parameters=False)
def relabel(file: str | None = None, flags: dict[str, Any] | None = None) -> dict[str, Any]:
    """The pool's labels under the ratified constitution (`retrain.base` names another run, `retrain.version` another
    constitution). Only verdicts that are not stored are asked; where none is missing, no model is."""
    with at_work("relabel", file, flags) as work:
        if work.finished:
            return work.finished
        comparisons = retraining.take_over(work)
        found = stages.label(work, "feedback", heldout="held-out feedback")
        base = work.settings.retrain.base
        return stages.finish(work, base=base, comparisons=comparisons, labels=found["labels"], judge=found["judge"])
