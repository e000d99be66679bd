"""What a run at work holds while it works: who acts, a budget, somebody who is told how far it is, and leases.

A lease keeps two workers off one item. Those of processes of this machine that are no more are given back at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from constitution.errors import UserError
from constitution.records import Id, make_id
from service import devices
from service.queries.processes import is_there, own_name
from service.queries.run_records import RunRecords
from service.wiring import Wiring
from service.work.budget import Budget
from service.work.left_out import LeftOut
from service.work.progress import Progress
from storage.claims import Lease, StaleLease
from storage.runs import Run

LEASE = 300.0  # seconds a batch may take before another worker may have it
PRESENT = 1800.0  # seconds for which a run's process is believed to be there, seen from another machine
WAIT = 0.5  # seconds between looks at what another worker holds


class Holding(RunRecords):
    """`who` acts in this run: what is promoted is promoted in their name. `report` is told how far the run is."""

    def __init__(self, wiring: Wiring, run: Run, *, who: str, report: Progress) -> None:
        super().__init__(wiring, run)
        self.who, self.report = who, report
        wiring.tell(self.log)
        self.budget = Budget(self.settings.limits)
        self.left_out = LeftOut()
        self.worker = own_name()
        self._said = -PRESENT
        self._devices: Lease | None = None
        self._bury_the_dead()
        self.here()

    def log(self, text: str) -> None:
        """Said to whoever watches the run."""
        self.report.say(f"  {text}")

    def say_left_out(self, stage: str) -> None:
        """Say what a stage left out, if anything: how many, and why the first of them."""
        found = self.left_out.of_stage(stage)
        if found:
            some = "1 is" if len(found) == 1 else f"{len(found)} are"
            self.log(f"{stage}: {some} left out, and the rest goes on ({found[0].refused.said})")

    def what_was_left_out(self) -> dict[str, Any]:
        """What results have of it. Rows are those of the run's prompts, or of the pairs that were judged."""
        lost = self.left_out.prompts
        named = {p.id: p for p in self.store.prompts(ids=list(lost))} if lost else {}
        stages = [self.members(stage) for stage in ("pairs", "prompts")] if lost else []
        rows = {id: row for ids in stages for row, id in enumerate(ids, 1)}
        return self.left_out.as_dict(named, rows)

    @contextmanager
    def claimed(self, what: str, ids: Sequence[Id]) -> Iterator[Lease]:
        """A lease on what nobody else holds, given back whatever happens. When it was lost to another worker, what
        came of it was not written, and the caller looks again at what is missing."""
        self.here()
        lease = self.store.claim(what, ids, self.worker, LEASE)
        try:
            yield lease
        except StaleLease as lost:
            self.report.say(f"  {lost}: looking again")
        finally:
            self.store.release(lease)

    def hold_devices(self, names: Sequence[str]) -> None:
        """Have these GPUs of this machine for this run alone, until it ends. Raises UserError where another flow that
        is at work has one: two that load their models there would both run out of memory."""
        known = {device.name: device.number for device in devices.there()}
        ids = {make_id("device", number=known[name]): name for name in names if name in known}
        if not ids:
            return
        stage = f"device of {socket.gethostname()}"
        lease = self.store.claim(stage, list(ids), self.worker, PRESENT)
        for ident, holder in self.store.holders(stage, [i for i in ids if i not in lease.ids]).items():
            self.store.release(lease)
            raise UserError(
                f"{ids[ident]} is in use by another flow (process {holder.split(':')[-2]}): wait until it has ended, "
                "or name another device (device of the roles, placement.training)"
            )
        self._devices = lease

    def close(self) -> None:
        self.store.release_worker(self.worker)

    def here(self) -> None:
        """Say that this run's process is there; called with every batch and every step, it writes now and then."""
        if self.run.status == "finished" or time.monotonic() < self._said + PRESENT / 4:
            return
        self._said = time.monotonic()
        self.store.come(self.run.id, self.worker, PRESENT)
        if self._devices is not None:
            try:
                self._devices = self.store.renew(self._devices, PRESENT)
            except StaleLease:
                raise UserError(
                    "another flow took the device of this one, which said nothing for half an hour; run it again"
                ) from None

    def _bury_the_dead(self) -> None:
        """Give back what processes of this machine held that are no more: their leases would keep us waiting."""
        for worker in self.store.workers():
            if is_there(worker) is False:
                self.store.release_worker(worker)
