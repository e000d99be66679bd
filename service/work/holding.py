"""What a run at work holds while it works: who acts, a budget, somebody who is told how far it is, and leases.

A lease keeps two workers off one item, and is renewed as long as its worker lives (`keeper.py`). Those of processes of
this machine that are no more are given back at once; those of others end by themselves.
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
from service.queries.processes import host_of, is_there, own_name, present
from service.queries.run_records import RunRecords
from service.wiring import Wiring
from service.work.budget import Budget
from service.work.keeper import Keeper
from service.work.left_out import LeftOut
from service.work.progress import Progress
from storage.claims import Lease
from storage.runs import Run

LEASE = 120.0  # seconds after the last sign of a worker's life in which another may have what it held
PRESENT = 300.0  # seconds for which a run's process is believed to be there, seen from another machine
WAIT = 1.0  # seconds between looks at what another worker does alone


class Holding(RunRecords):
    """`who` acts in this run: what is promoted is promoted in their name. `report` is told how far the run is."""

    def __init__(self, wiring: Wiring, run: Run, *, who: str, report: Progress) -> None:
        super().__init__(wiring, run)
        self.who, self.report = who, report
        wiring.tell(self.log)
        self.budget = Budget(self.settings.limits)
        self.left_out = LeftOut()
        self.worker = own_name()
        self._keeper = Keeper(self.store, LEASE, PRESENT, self.come)
        self.bury_the_dead()
        if run.status != "finished":
            self.come()
            self._keeper.start()

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

    def hold(self, what: str, ids: Sequence[Id]) -> Lease:
        """A lease on what nobody else holds, renewed until it is given back."""
        lease = self.store.claim(what, ids, self.worker, LEASE)
        self._keeper.keep(lease)
        return lease

    def give_back(self, lease: Lease) -> None:
        self._keeper.drop(lease)
        self.store.release(lease)

    @contextmanager
    def alone(self, what: str, id: Id, name: str) -> Iterator[tuple[Lease, bool]]:
        """A lease on one thing that only one worker does, and whether another was at it before. This waits until that
        one has done it or is gone, and says so, by `name`."""
        told = waited = False
        while not (lease := self.hold(what, [id])).ids:
            self.give_back(lease)
            waited = True
            if not told and (holder := self.store.holders(what, [id]).get(id)):
                self.log(f"{name}: a worker on {host_of(holder)} is at it; waiting, to go on with what comes of it")
                told = True
            time.sleep(WAIT)
            self.bury_the_dead()
        try:
            yield lease, waited
        finally:
            self.give_back(lease)

    def leave(self) -> list[str]:
        """This worker is at the run no more; the machines of those that still are."""
        self._keeper.close()
        self.store.release_worker(self.worker)
        return sorted({host_of(worker) for worker in present(self.store.at_work().get(self.run.id, {}))})

    def hold_devices(self, names: Sequence[str]) -> None:
        """Have these GPUs of this machine for this run alone, until it ends. Raises UserError where another flow that
        is at work has one: two that load their models there would both run out of memory."""
        known = {device.name: device.number for device in devices.there()}
        ids = {make_id("device", number=known[name]): name for name in names if name in known}
        if not ids:
            return
        stage = f"device of {socket.gethostname()}"
        lease = self.hold(stage, list(ids))
        for ident, holder in self.store.holders(stage, [i for i in ids if i not in lease.ids]).items():
            self.give_back(lease)
            raise UserError(
                f"{ids[ident]} is in use by another flow (process {holder.split(':')[-2]}): wait until it has ended, "
                "or name another device (device of the roles, placement.training)"
            )

    def close(self) -> None:
        self._keeper.close()
        self.store.release_worker(self.worker)

    def come(self) -> None:
        """Say that this run's process is there."""
        self.store.come(self.run.id, self.worker, PRESENT)

    def lost(self, lease: Lease) -> bool:
        """Whether some of a lease has gone to another worker, as far as is known yet."""
        return self._keeper.lost(lease)

    def bury_the_dead(self) -> None:
        """Give back what processes of this machine held that are no more: their leases would keep us waiting."""
        for worker in self.store.workers():
            if is_there(worker) is False:
                self.store.release_worker(worker)
