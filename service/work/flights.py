"""Calls of an engine that are under way: one in this thread, or several, each in a thread of its own.

Only the engine is asked there; what is looked up and stored is the business of whoever started the calls. The threads
end with the process: one whose server never answers keeps nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from storage.claims import Lease

B = TypeVar("B")


@dataclass
class Flight(Generic[B]):
    """A batch that is asked, what is held for it, and how many calls of models it is reckoned to cost. `seconds`: for
    which it alone was under way, so that those of all flights together are what a clock would show."""

    batch: B
    lease: Lease
    cost: int
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    seconds: float = 0.0
    answer: Future[object] = field(default_factory=Future)


class Flights(Generic[B]):
    """At most `width` at once; of one at a time, `start` returns when it has ended."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._flying: list[Flight[B]] = []
        self._counted = 0.0  # up to when seconds were given to a flight

    def __len__(self) -> int:
        return len(self._flying)

    @property
    def full(self) -> bool:
        return len(self._flying) >= self.width

    @property
    def cost(self) -> int:
        """What all of them are reckoned to cost."""
        return sum(flight.cost for flight in self._flying)

    def start(self, flight: Flight[B], call: Callable[[], object]) -> None:
        """Ask. Whatever it raises comes with the flight, but an interrupt of this thread, which is raised here."""

        def fly() -> None:
            try:
                flight.answer.set_result(call())
            except BaseException as error:
                if self.width == 1 and not isinstance(error, Exception):
                    raise
                flight.answer.set_exception(error)
            finally:
                flight.ended = time.monotonic()

        if self.width == 1:
            fly()
        else:
            threading.Thread(target=fly, name="engine-call", daemon=True).start()
        self._flying.append(flight)

    def ended(self) -> list[Flight[B]]:
        """Those that have ended, the earliest first; they are no more under way."""
        done = sorted((f for f in self._flying if f.answer.done()), key=lambda flight: flight.ended)
        for flight in done:
            flight.seconds = max(0.0, flight.ended - max(flight.began, self._counted))
            self._counted = max(self._counted, flight.ended)
            self._flying.remove(flight)
        return done

    def one_ends(self) -> None:
        """Wait until at least one has ended."""
        wait([flight.answer for flight in self._flying], return_when=FIRST_COMPLETED)
