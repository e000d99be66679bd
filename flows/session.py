"""What a flow opens first: its settings, its wiring and its run, by whom it was started and who is told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import runtime

from flows.telling import Told
from service import placement, preflight
from service import settings as settings_module
from service.queries.base_run import wire
from service.settings import process_user
from service.work import life
from service.work.progress import Progress
from service.work.work import Work


def scheduled_slot() -> str:
    """The schedule slot of this flow run, or empty: a slot that fires twice is then one run."""
    if not runtime.deployment.id:
        return ""
    start = runtime.flow_run.scheduled_start_time
    return start.isoformat(timespec="seconds") if start else ""


@contextmanager
def at_work(
    kind: str,
    file: str | None,
    flags: Mapping[str, Any] | None,
    who: str | None = None,
    report: Progress | None = None,
) -> Iterator[Work]:
    """A flow's run at work (`service.work.life`). `who`: the person who started it; None, as on a worker: whoever runs
    this process. `report`: who is told; Prefect's log always is."""
    began = time.monotonic()
    flags = dict(flags or {})
    slot = scheduled_slot()
    if slot and "slot" not in flags:
        flags["slot"] = slot
    settings, _ = settings_module.load(Path(file) if file else None, flags)
    settings_module.prepare_process(settings)
    wiring = wire(kind, settings)
    try:
        preflight.check(kind, wiring)  # before a run is begun: a mistake leaves none behind
        with life.of_prompts(wiring, kind, who=who or process_user(), report=Told(report)) as work:
            if work.run.status != "finished" and kind in preflight.ASKS:
                work.hold_devices(placement.local(settings, preflight.ASKS[kind], kind in preflight.TRAINS))
            work.seconds["startup"] = time.monotonic() - began
            yield work
    finally:
        wiring.close()
