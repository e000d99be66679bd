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
from storage.store import Store

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
    wiring = wire(kind, settings)
    try:
        work = _begin(kind, wiring, wiring.settings)
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


def wire(kind: str, settings: Settings) -> Wiring:
    """The wiring of a flow: what follows an amendment is wired as the run it starts from, under the ratified
    constitution."""
    if kind == "retrain":
        from flows.retraining import Retraining

        return Retraining(settings)
    if kind == "relabel":
        from flows.relabel import Relabelling

        return Relabelling(settings)
    return Wiring(settings)


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
        {"settings": settings.identity(kind), "policy": wiring.start()},
        constitution.version,
    )
    if run.status != "finished":
        try:
            _refuse_drift(wiring, settings)
        except UserError as error:
            store.finish_run(run.id, "failed", error=str(error))
            raise
    store.add_prompts(prompts)
    ids = [p.id for p in prompts]
    store.add_members(run.id, "prompts", ids, list(range(len(ids))))
    return Work(wiring, run, REPORTER)


DRIFT = 0.05  # natural log: servers differ by less from batch to batch, another model by far more


def refuse_drift(store: Store, role: str, engine: Any) -> None:
    """A remote model has no fingerprint, only a declared revision: its canary answers are compared with those it gave
    when the store first met that revision. Raises UserError where they moved. Engines without canaries pass."""
    ask = getattr(engine, "canary", None)
    if ask is None:
        return
    now = {str(n): value for n, value in enumerate(ask())}
    first = store.canaries(engine.fingerprint, {"canary": now})["canary"]
    moved = max((abs(now.get(n, -100.0) - value) for n, value in first.items()), default=0.0)
    if moved > DRIFT:
        raise UserError(
            f"the {role}'s server does not answer as it did under this revision (its canaries moved by {moved:.2f}): "
            f"it serves other weights. Declare another {role}.revision, or serve the model that it names."
        )


def _refuse_drift(wiring: Wiring, settings: Settings) -> None:
    for name in ("policy", "critic", "judge", "evaluator"):
        role = getattr(settings, name)
        if role is not None and role.base_url and role.model:
            engine = wiring.role(role).engine
            if engine.capabilities.choose:
                refuse_drift(wiring.store, name, engine)


def _end(work: Work, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt | BudgetReached | TrainingStopped):
        work.store.finish_run(work.run.id, "stopped", error=str(error) or "interrupted")
    else:
        work.store.finish_run(work.run.id, "failed", error=f"{type(error).__name__}: {error}")
