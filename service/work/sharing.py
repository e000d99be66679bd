"""Batches that workers share: each asks what nobody holds, passes over what others hold, and comes back to that.

A batch is claimed, asked and committed whole, so whoever is killed loses what was in flight and nothing else. Where an
engine waits for another machine, several batches are in flight at once: the same batches, cut from the same plan, each
committed as it ends. Which of them ends first is seen nowhere in the store, because every record knows its place.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from constitution.records import Id
from service.work.budget import BudgetReached
from service.work.flights import Flight, Flights
from service.work.holding import Holding
from service.work.progress import Stage
from storage.claims import Lease, StaleLease

SOONEST, LATEST = 0.05, 0.5  # seconds between looks at what others hold: twice as long each time that nothing moved


class Batch(ABC):
    """Some of a stage's plan. `left`: how many were open when somebody looked last."""

    left: int

    @abstractmethod
    def open(self) -> list[Id]:
        """What is neither stored nor refused, as the store has it now, by the ids that are claimed."""

    @abstractmethod
    def call(self, mine: Sequence[Id]) -> tuple[int, Callable[[], Any]]:
        """How many calls of models these will cost at most, and what asks for them: it touches no store, and may be
        called in another thread."""

    @abstractmethod
    def keep(self, said: Any, seconds: float, lease: Lease) -> int:
        """Store what the call returned, in one transaction; how many are open no more. Raises StaleLease."""


class Sharing(Holding):
    def share(self, what: str, batches: Iterable[Batch], width: int, progress: Stage) -> None:
        """Have nothing of the batches open, by this worker or by others. `width`: how many are in flight at once."""
        pause = SOONEST
        while True:
            batches, took = self._walk(what, batches, width, progress)
            if not batches:
                return
            pause = SOONEST if took else min(LATEST, 2 * pause)
            if not took:
                time.sleep(pause)  # others have them: they finish, or their leases end
                self.bury_the_dead()

    def _walk(self, what: str, batches: Iterable[Batch], width: int, progress: Stage) -> tuple[list[Batch], bool]:
        """Go over the batches once. Those that are to be looked at again, and whether anything of them was taken."""
        again: list[Batch] = []
        took = False
        with self._flying(width, again, progress) as flights:
            for batch in batches:
                units = batch.open()
                _tell(batch, len(units), progress)
                held = self.store.holders(what, units) if units else {}
                free = [unit for unit in units if unit not in held]
                if not free:
                    again += [batch] if units else []
                    continue
                while flights.full:
                    flights.one_ends()
                    self._land(flights, again, progress)
                lease = self.hold(what, free)
                still = set(batch.open())
                mine = [unit for unit in lease.ids if unit in still]
                if not mine:
                    self.give_back(lease)
                    again += [batch] if still else []
                    continue
                took = True
                cost, call = batch.call(mine)
                self._afford(cost, flights, again, progress)
                flights.start(Flight(batch, lease, cost), call)
                if len(mine) < len(still):
                    again.append(batch)
                self._land(flights, again, progress)
        return again, took

    @contextmanager
    def _flying(self, width: int, again: list[Batch], progress: Stage) -> Iterator[Flights[Batch]]:
        """Nothing is in flight when this ends. Where it fails, the others are waited for and kept; where it is
        interrupted, those that have ended are kept, and the others are left."""
        flights: Flights[Batch] = Flights(width)
        try:
            yield flights
            while flights:
                flights.one_ends()
                self._land(flights, again, progress)
        except BaseException as error:
            failed = isinstance(error, Exception)
            with suppress(Exception):  # what is told is the first failure
                while flights:
                    if failed:
                        flights.one_ends()
                    for flight in (ended := flights.ended()):
                        if flight.answer.exception() is None:
                            self._keep(flight, [], progress)
                    if not failed and not ended:
                        break
            raise

    def _land(self, flights: Flights[Batch], again: list[Batch], progress: Stage) -> None:
        """Store what has ended. Raises what the first that failed raised, the others kept."""
        failed: list[BaseException] = []
        for flight in flights.ended():
            if error := flight.answer.exception():
                failed.append(error)
                self.give_back(flight.lease)
            else:
                self._keep(flight, again, progress)
        if failed:
            raise failed[0]

    def _keep(self, flight: Flight[Batch], again: list[Batch], progress: Stage) -> None:
        """When the lease was lost to another worker, what came of it is not written, and is looked at again."""
        try:
            done = flight.batch.keep(flight.answer.result(), flight.seconds, flight.lease)
        except StaleLease as lost:
            self.report.say(f"  {lost}: looking again")
            again.append(flight.batch)
        else:
            _tell(flight.batch, flight.batch.left - done, progress)
        finally:
            self.give_back(flight.lease)

    def _afford(self, cost: int, flights: Flights[Batch], again: list[Batch], progress: Stage) -> None:
        """Raise BudgetReached where that would pass a limit even when all that is in flight has ended."""
        while True:
            try:
                return self.budget.afford(cost, flights.cost)
            except BudgetReached:
                if not flights:
                    raise
                flights.one_ends()
                self._land(flights, again, progress)


def _tell(batch: Batch, left: int, progress: Stage) -> None:
    """What others did counts, too: the stage comes to its end by both."""
    if left < batch.left:
        progress.advance(batch.left - left)
        batch.left = left
