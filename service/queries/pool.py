"""The pool: the comparisons that labels are made of, and the questions that a judge is asked about them.

A default retrain labels the pool anew and trains on that; so an amendment's price and its flips are counted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import Id
from pipeline.judges.judge import Judge
from storage.runs import Run
from storage.store import Store

LOOPS = ("improve", "retrain")  # kinds of runs that label and train
STAGES = ("feedback", "held-out feedback")
ASIDE = ("examples", "trial", "stress", "twins")  # stages that test a wording or a judge, and label nothing
NO_LABELS = ("examples", "trial", "preview", "try", "stress")  # kinds of runs that ask a model and label nothing


@dataclass(frozen=True)
class Pool:
    """`run`: whose comparisons they are; None where they are all that a judge was ever asked about."""

    run: Run | None
    comparisons: tuple[Id, ...]


def find(store: Store, run: str = "") -> Pool:
    """The pool of a run (by the first digits of its id), or of the newest finished one; where the loop never ran, every
    comparison that has a verdict. Raises UserError for a run without labels."""
    chosen = store.run(run) if run else newest(store.runs())
    if chosen is None:
        return Pool(None, tuple(store.judged_comparisons(ASIDE)))
    found = tuple(dict.fromkeys(id for stage in STAGES for id in store.stage_members(chosen.id, stage)))
    if run and not found:
        raise UserError(
            f"run {chosen.id.hex()[:12]} ({chosen.kind}) has no labels; `precept run list` shows the others"
        )
    return Pool(chosen, found)


def newest(runs: Iterable[Run]) -> Run | None:
    """The newest finished run of the loop, of runs that come newest first."""
    return next(iter(finished(runs)), None)


def finished(runs: Iterable[Run]) -> list[Run]:
    """The finished runs of the loop; without trials, which were asked not to promote whatever came of them."""
    loops = (r for r in runs if r.kind in LOOPS and r.status == "finished")
    return [r for r in loops if r.settings["settings"].get("retrain", {}).get("promote", True)]


def questions(judge: Judge, principles: Iterable[Principle] | Constitution) -> dict[str, Id]:
    """By principle's id, the id of the question that the judge is asked about it."""
    return {principle.id: judge.question(principle).id for principle in principles}
