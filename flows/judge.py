"""Have the judge label pairs that came from elsewhere: a file of unlabelled pairs or of human preferences."""

from __future__ import annotations

from typing import Any

from prefect import flow

from constitution.errors import UserError
from flows import steps
from flows.session import at_work
from service.work.progress import Progress


@flow(name="judge", description="Label pairs of a file by the constitution.", validate_parameters=False)
def judge(
    file: str | None = None,
    flags: dict[str, Any] | None = None,
    who: str | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """`settings.pairs` names the file. Where it says which answer people prefer, the agreement is measured."""
    with at_work("judge", file, flags, who, report) as work:
        if work.finished:
            return work.finished
        if not work.settings.pairs:
            raise UserError("name the pairs: precept judge pairs FILE.jsonl (or pairs = in the settings)")
        preferred = steps.import_pairs(work, "pairs")
        steps.try_judge(work, "judge", work.settings.judge)
        return steps.finish(work, **steps.judge_pairs(work, "pairs", preferred))
