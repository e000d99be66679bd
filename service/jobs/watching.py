"""Starts a worker process when a job comes, and again when it dies; ends it with the console."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence

from service.jobs.worker import take_back
from storage.store import Store

LOOK = 0.5  # seconds
APART = 3.0  # seconds at least between two starts: a worker that cannot begin is not started in a storm


class Watching:
    """`with Watching(store, [sys.executable, ...]): ...`"""

    def __init__(self, store: Store, command: Sequence[str]) -> None:
        self._store, self._command = store, list(command)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watching the worker", daemon=True)
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def _watch(self) -> None:
        started = -APART
        while not self._over.wait(LOOK):
            if self.child is not None and self.child.poll() is None:
                continue
            take_back(self._store)
            if time.monotonic() - started >= APART and self._store.jobs(("waiting",), most=1):
                started = time.monotonic()
                self.child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
