"""What a server that shows pairs to many people keeps between two requests, so that a queue of ten thousand pairs is
not made anew for each answer: what a run judged, the order of each reviewer's queue, and what they have answered.

Nothing here is the only place of anything. Orders are made anew after `KEPT_SECONDS`, and what somebody answered is
read on from the store at each request, so that it does not matter which process took the answer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from constitution.records import Id
from service.queries import judged, queue
from service.queries.judged import Judged
from storage.store import Store

T = TypeVar("T")

KEPT_SECONDS = 5 * 60.0
MOST = 200  # queues that are kept: those asked for last
LOOK_BACK = 200  # on Postgres an event's number may become visible after a later one's
PAUSE = 5 * 60.0  # seconds between two answers above which somebody was away


@dataclass
class Done:
    """What a reviewer has answered of a run; `number`: of the event up to which this is so. `times`: of what they did
    today, in any run, in Unix seconds."""

    answered: set[Id]
    number: int
    day: str
    times: list[float] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """How long they were at it today: the time between their answers, without the pauses."""
        gaps = (later - before for before, later in zip(self.times, self.times[1:], strict=False))
        return sum(gap for gap in gaps if gap <= PAUSE)


class Desk:
    """For one store. Several threads may use it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._kept: OrderedDict[Hashable, tuple[float, object]] = OrderedDict()
        self._done: OrderedDict[Hashable, Done] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[Hashable, threading.Lock] = {}

    def about(self, run: str) -> Judged:
        """What the run of these first digits judged, or the newest that judged anything."""
        return self._once(("about", run), lambda: judged.newest(self.store, run))

    def order(self, about: Judged, who: str, sample: str, seed: int) -> list[Id]:
        """A reviewer's queue, the answered pairs too: `queue.order`."""
        return self._once(
            ("order", about.run.id, who, sample, seed),
            lambda: queue.order(about, who, sample, seed),  # type: ignore[arg-type]  # it refuses any other word
        )

    def done(self, about: Judged, who: str, asked: str) -> Done:
        """What a reviewer has answered of a run, as it is now."""
        key = (about.run.id, who, asked)
        with self._lock:
            lock = self._reading.setdefault(key, threading.Lock())
        with lock:
            found = self._done.get(key)
            today = datetime.now(UTC).date().isoformat()
            if found is None or found.day != today:
                rows, number = self.store.reviewed(who, day=today)
                answered = self.store.answered(who, run=about.run.id, stages=about.stages, asked=asked)
                found = Done(answered, number, today, [at for _, _, at in rows], {seq for seq, _, _ in rows})
                self._put(self._done, key, found)
            self._read_on(found, who, asked)
            return found

    def _read_on(self, done: Done, who: str, asked: str) -> None:
        rows, number = self.store.reviewed(who, since=max(0, done.number - LOOK_BACK), day=done.day)
        new = [row for row in rows if row[0] not in done.seen]
        touched = sorted({about for _, about, _ in new if about is not None})
        if touched:
            done.answered.difference_update(touched)
            done.answered |= self.store.answered(who, touched, asked=asked)
        done.times += [at for _, _, at in new]
        done.seen = {seq for seq, _, _ in rows}
        done.number = max(done.number, number)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made of late under this key. One thread makes it, the others wait for it."""
        with self._lock:
            lock = self._reading.setdefault(key, threading.Lock())
        with lock:
            kept = self._kept.get(key)
            if kept is None or kept[0] < time.monotonic() - KEPT_SECONDS:
                kept = (time.monotonic(), make())
                self._put(self._kept, key, kept)
            return kept[1]  # type: ignore[return-value]

    def _put(self, where: OrderedDict[Hashable, T], key: Hashable, value: T) -> None:
        with self._lock:
            where[key] = value
            where.move_to_end(key)
            while len(where) > MOST:
                gone, _ = where.popitem(last=False)
                self._reading.pop(gone, None)
