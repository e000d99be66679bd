"""The runs of a store a page at a time, filtered, and of each what its settings have that the run before had not.

`runs.py` has one run; two side by side are in `run_compare.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from service.queries import run_compare
from service.queries.page import Page
from service.queries.run_compare import Differs
from service.queries.runs import Summary, of_workers, summary

if TYPE_CHECKING:
    from storage.runs import Run, RunStatus
    from storage.store import Store

STATUSES: tuple[RunStatus, ...] = ("running", "finished", "stopped", "failed")
DECISIONS = ("promoted", "proposed", "refused")
LOOKED_AT = 400  # runs that a page with a filter looks through: where few fit, it may be short and not the last


@dataclass(frozen=True)
class Listed:
    """A run in a list. `before`: the id of the run of the same flow that was begun before it, which `differs` compares
    it with; None where there is none."""

    summary: Summary
    before: str | None
    differs: tuple[Differs, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**self.summary.as_dict(), "before": self.before, "differs": [x.as_dict() for x in self.differs]}


def page(
    store: Store, *, kind: str = "", outcome: str = "", constitution: str = "", after: str = "", most: int = 20
) -> Page[Listed]:
    """The newest runs. `outcome`: how it is (`STATUSES`) or what was decided (`DECISIONS`); `constitution`: the first
    digits of its version; `after`: where the page before ended. Raises UserError for a filter that is none."""
    if outcome and outcome not in (*STATUSES, *DECISIONS):
        raise UserError(f"there is no outcome {outcome!r}; there are {', '.join((*STATUSES, *DECISIONS))}")
    workers = store.at_work()
    found: list[Run] = []
    last = store.run(after).id if after else None
    looked = 0
    more = True
    while more and len(found) <= most and looked < LOOKED_AT:
        some = store.runs(
            kinds=[kind] if kind else None, statuses=_stored(outcome), before=last, most=min(LOOKED_AT, 2 * most + 1)
        )
        more = len(some) == min(LOOKED_AT, 2 * most + 1)
        looked += len(some)
        for run in some:
            last = run.id
            shown = of_workers(run, workers.get(run.id, {}))
            if (not outcome or _is(shown, outcome)) and (run.constitution or "").startswith(constitution):
                found.append(shown)
            if len(found) > most:
                break
    full = len(found) > most
    kept = found[:most]
    following = kept[-1].id.hex() if full else last.hex() if more and last is not None else None
    return Page(tuple(_listed(store, run) for run in kept), following)


def kinds(store: Store) -> list[str]:
    """The flows that there are runs of, by name."""
    return store.run_kinds()


def _stored(outcome: str) -> list[RunStatus] | None:
    """The statuses that the store may have for an outcome: a run that stopped because its process is gone is still said
    to be running there."""
    if outcome in DECISIONS or outcome == "finished":
        return ["finished"]
    if outcome == "stopped":
        return ["stopped", "running"]
    return [status for status in STATUSES if status == outcome] or None


def _is(run: Run, outcome: str) -> bool:
    return outcome in (run.status, summary(run).outcome if run.status == "finished" else "")


def _listed(store: Store, run: Run) -> Listed:
    earlier = store.runs(kinds=[run.kind], before=run.id, most=1)
    if not earlier:
        return Listed(summary(run), None, ())
    return Listed(summary(run), earlier[0].id.hex(), run_compare.settings_between(earlier[0], run))
