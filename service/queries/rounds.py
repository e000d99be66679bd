"""The further rounds of a run: what was found of each."""

from __future__ import annotations

from typing import Any

from service.queries.run_records import RunRecords


def told(run: RunRecords) -> list[dict[str, Any]]:
    """What was found of each further round of a run, in order."""
    found = (run.store.document("round", f"{run.run.id.hex()}:{n}") for n in range(2, run.settings.rounds + 1))
    return [document for document in found if document is not None]
