"""Runs as people ask for them: how each ended, how long it took, under which constitution, with what win rate.

Two of them side by side are in `run_compare.py`; what a run has in the store for whoever measures, in `run_records.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from service.queries.processes import host_of, is_there, present

if TYPE_CHECKING:
    from storage.runs import Run
    from storage.store import Store


@dataclass(frozen=True)
class Summary:
    """`outcome`: promoted, proposed or refused where the run decided on a model, else what stopped or broke it, if any.
    `seconds`: those the run says it worked, or from its beginning to its end; None while it is under way."""

    run: Run
    outcome: str
    seconds: float | None
    win_rate: Mapping[str, float | None] | None  # mean, low, high

    @property
    def mean(self) -> float | None:
        return self.win_rate["mean"] if self.win_rate else None

    def as_dict(self) -> dict[str, Any]:
        run = self.run
        return {
            "id": run.id.hex(), "kind": run.kind, "status": run.status, "constitution": run.constitution,
            "created": run.created, "finished": run.finished, "error": run.error, "outcome": self.outcome,
            "seconds": self.seconds, "win_rate": dict(self.win_rate) if self.win_rate else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """One run with its settings, its result and its stages: records of each, and how many were stored before."""

    summary: Summary
    stages: Mapping[str, int]
    reused: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        run = self.summary.run
        return {
            **self.summary.as_dict(), "settings": run.settings, "result": run.result, "stages": dict(self.stages),
        }  # fmt: skip


def runs(store: Store) -> list[Summary]:
    """Every run, the newest first."""
    workers = store.at_work()
    return [summary(of_workers(run, workers.get(run.id, {}))) for run in store.runs()]


def as_it_is(store: Store, run: Run) -> Run:
    """A run that is said to be running, and whose process is gone, is one that stopped."""
    return of_workers(run, store.at_work().get(run.id, {}) if run.status == "running" else {})


def of_workers(run: Run, workers: Mapping[str, int]) -> Run:
    """The same, of a run whose workers are known."""
    if run.status != "running":
        return run
    if present(workers):
        return run
    elsewhere = sorted({host_of(worker) for worker in workers if is_there(worker) is None})
    why = f"its process on {', '.join(elsewhere)} gives no sign of life" if elsewhere else "its process is gone"
    return replace(run, status="stopped", error=why)


def show(store: Store, name: str) -> Shown:
    """The run whose id begins so. Raises UserError where none or several fit."""
    run = as_it_is(store, store.run(name))
    sizes = store.stage_sizes(run.id)
    return Shown(summary(run), {s: n for s, (n, _) in sizes.items()}, {s: before for s, (_, before) in sizes.items()})


def summary(run: Run) -> Summary:
    result = run.result if isinstance(run.result, dict) else {}
    win = result.get("win_rate")
    return Summary(run, _outcome(run, result), _seconds(run, result), win if isinstance(win, dict) else None)


def report(store: Store, name: str = "") -> Path:
    """The report of a run, or of the newest that has one. Raises UserError where there is none, or the file is gone."""
    found = [store.run(name)] if name else store.runs()
    reports = [r.result["report"] for r in found if isinstance(r.result, dict) and r.result.get("report")]
    if not reports:
        raise UserError("no such run has a report: a run gets one when it is finished (precept run list)")
    path = Path(reports[0])
    if not path.is_file():
        raise UserError(f"the report {path} is not there any more; run it again in another slot, or restore the file")
    return path


def stopped_last(store: Store) -> Run | None:
    """The run to go on with: of those that stopped or were left running, the one that did so last."""
    stopped = [run for run in store.runs() if run.status in ("stopped", "running")]
    return max(stopped, key=lambda run: run.finished or run.created, default=None)


def _outcome(run: Run, result: Mapping[str, Any]) -> str:
    if "promoted" in result:
        return "promoted" if result["promoted"] else "proposed" if result.get("proposed") else "refused"
    return (run.error or "").partition("\n")[0]


def _seconds(run: Run, result: Mapping[str, Any]) -> float | None:
    said = result.get("seconds")
    if isinstance(said, dict) and "total" in said:
        return float(said["total"])
    if run.finished is None:
        return None
    return (datetime.fromisoformat(run.finished) - datetime.fromisoformat(run.created)).total_seconds()
