"""Opening and closing a run: find it or begin it, and leave it finished, stopped or failed, never in doubt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import runtime

from constitution.errors import UserError
from flows import settings as settings_module
from flows.budget import BudgetReached
from flows.progress import Reporter
from flows.settings import Settings
from flows.wiring import Wiring
from flows.work import Work, run_key
from pipeline.trainers.trainer import TrainingStopped

REPORTER = Reporter()  # the command line replaces it when asked to be quiet


def scheduled_slot() -> str:
    """The schedule slot of this flow run, or empty: a slot that fires twice is then one run."""
    if not runtime.deployment.id:
        return ""
    start = runtime.flow_run.scheduled_start_time
    return start.isoformat(timespec="seconds") if start else ""


@contextmanager
def at_work(kind: str, file: str | None, flags: Mapping[str, Any] | None) -> Iterator[Work]:
    """A run at work. Whatever ends it, what was answered is stored and the run says how it ended."""
    began = time.monotonic()
    flags = dict(flags or {})
    slot = scheduled_slot()
    if slot and "slot" not in flags:
        flags["slot"] = slot
    settings, _ = settings_module.load(Path(file) if file else None, flags)
    settings_module.prepare_process(settings)
    wiring = Wiring(settings)
    try:
        work = _begin(kind, wiring, settings)
        work.seconds["startup"] = time.monotonic() - began
        try:
            yield work
        except BaseException as error:
            _end(work, error)
            raise
        finally:
            work.close()
    finally:
        wiring.close()


def _begin(kind: str, wiring: Wiring, settings: Settings) -> Work:
    store, constitution = wiring.store, wiring.constitution
    store.put_constitution(constitution.version, constitution.source)
    if store.ratified() is None:  # a fresh store ratifies its first by itself
        store.ratify(
            constitution.version, who=settings_module.user(), message="the first constitution of this store",
            key=f"first:{constitution.version}",
        )  # fmt: skip
    prompts = wiring.prompts()
    if not prompts:
        raise UserError(f"there are no prompts in {settings.prompts}")
    key = run_key(kind, wiring, prompts)
    # "The promoted one" must not move when a run is resumed: what it stood for is kept with the run.
    run = store.start_run(
        key,
        kind,
        {"settings": settings.identity(), "policy": wiring.resolve(settings.policy.model)},
        constitution.version,
    )
    store.add_prompts(prompts)
    ids = [p.id for p in prompts]
    store.add_members(run.id, "prompts", ids, list(range(len(ids))))
    return Work(wiring, run, REPORTER)


def _end(work: Work, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt | BudgetReached | TrainingStopped):
        work.store.finish_run(work.run.id, "stopped", error=str(error) or "interrupted")
    else:
        work.store.finish_run(work.run.id, "failed", error=f"{type(error).__name__}: {error}")
