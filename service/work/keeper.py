"""Leases are renewed while what they are for is asked, in a thread of its own: a slow batch is not asked by two.

A worker that is stopped as a whole (a closed lid, a paused machine) renews nothing. When it wakes, what another took
meanwhile is lost to it: `lost` says so, and the store refuses what it would write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from storage.claims import Lease, StaleLease
from storage.store import Store

log = logging.getLogger(__name__)
PARTING = 2.0  # seconds that a renewal may take when the worker goes: Ctrl-C does not wait for a database


class Keeper:
    """`lease` and `present`: seconds for which what is held, and the worker itself, is renewed; four times as often as
    it would end. `come` says that the worker is there. A database that is away is tried again the next time."""

    def __init__(self, store: Store, lease: float, present: float, come: Callable[[], None]) -> None:
        self._store, self._lease, self._come = store, lease, come
        self._every = min(lease, present) / 4
        self._told_every, self._told = present / 4, time.monotonic()
        self._held: dict[bytes, Lease] = {}
        self._lost: set[bytes] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
            self._thread.start()

    def keep(self, lease: Lease) -> None:
        """Renew a lease from now on."""
        with self._lock:
            self._held[lease.fence] = lease

    def drop(self, lease: Lease) -> None:
        """Renew it no more."""
        with self._lock:
            self._held.pop(lease.fence, None)
            self._lost.discard(lease.fence)

    def lost(self, lease: Lease) -> bool:
        """Whether some of a lease that is kept has gone to another worker."""
        with self._lock:
            return lease.fence in self._lost

    def renew(self) -> None:
        """Renew all that is held, and say that the worker is there, where it is time to."""
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            try:
                self._store.renew(lease, self._lease)
            except StaleLease:
                with self._lock:
                    if self._held.pop(lease.fence, None) is not None:  # and was not given back just now
                        self._lost.add(lease.fence)
        if time.monotonic() >= self._told + self._told_every:
            self._told = time.monotonic()
            self._come()

    def close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(PARTING)

    def _run(self) -> None:
        while not self._ending.wait(self._every):
            try:
                self.renew()
            except Exception as error:  # what is held lasts a while, and a write without it is refused
                log.info("leases could not be renewed: %s", error)
