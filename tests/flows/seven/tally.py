"""A flow: the policy answers, the judge says who is right in a file of pairs, and both are counted."""

from typing import Any

from prefect import flow

from flows import steps
from flows.session import at_work


@flow(name="tally", description="Answers, and labels of a file's pairs.", validate_parameters=False)
def tally(file: str | None = None, flags: dict[str, Any] | None = None, who: str | None = None) -> dict[str, Any]:
    """Takes no report: a flow says by its parameters what it wants to know."""
    with at_work("tally", file, flags, who) as work:
        if work.finished:
            return work.finished
        answers = steps.respond(work, "answers", work.start, split="train")
        found = steps.judge_pairs(work, "pairs", steps.import_pairs(work, "pairs"))
        return steps.finish(work, who=work.who, answers=answers, agrees=found["agrees_with_file"])
