"""Where a flow says how far it is: to whoever started it, if they want to hear it, and to Prefect's log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from service.work.progress import Progress, Silent, Stage, Uncounted

LINE_EVERY = 10.0  # seconds between a stage's lines in the log


def note(text: str) -> None:
    """Kept in Prefect's log alone."""
    try:
        get_run_logger().info(text)
    except MissingContextError:  # called as a plain function
        logging.getLogger("precept").info(text)


class Told:
    """Sentences go to `progress` and to the log; stages to `progress` or, where it is None, to the log as lines."""

    def __init__(self, progress: Progress | None) -> None:
        self.shown = progress is not None
        self.progress = progress or Silent()

    def say(self, text: str) -> None:
        self.progress.say(text)
        note(text.strip())

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        if self.shown:
            with self.progress.stage(name, total) as stage:
                yield stage
            return
        logged = _Logged(name, total)
        try:
            yield logged
        finally:
            if logged.total:
                logged.tell()


class _Logged(Uncounted):
    def __init__(self, name: str, total: int) -> None:
        super().__init__(total)
        self.name = name
        self.said = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        super().advance(n, note)
        self._now_and_then()

    def reach(self, done: int, total: int, note: str = "") -> None:
        super().reach(done, total, note)
        self._now_and_then()

    def _now_and_then(self) -> None:
        if time.monotonic() - self.said > LINE_EVERY:
            self.tell()

    def tell(self) -> None:
        self.said = time.monotonic()
        note(f"{self.name}: {self.done}/{self.total}")
