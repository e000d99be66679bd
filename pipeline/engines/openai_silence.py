"""Says in words that a server does not answer: within seconds, then at growing intervals, until it is over.

Nothing is decided here: how often and how long a request is tried again is `openai_transport.Patience`. What is asked
of one path of the server (vLLM goes on tokenizing when its engine is dead) is one silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_WORD = 4.0  # seconds without an answer before it is said
GROWTH = 2.0  # each further word after so many times as long
LONGEST = 240.0  # seconds between two words, at most
SLOWEST = 30.0  # seconds before the first word, at most, where answers took long before

Say = Callable[[str], None]
log = logging.getLogger(__name__)


class Silence:
    """The requests of one path that wait for an answer, in one event loop."""

    def __init__(self, host: str, say: Say | None = None) -> None:
        self._host = host
        self.say: Say = say or log.warning
        self._waiting = 0
        self._ends = 0.0  # when the last of them is given up
        self._since = 0.0  # when the silence began
        self._pause = FIRST_WORD
        self._due = 0.0
        self._cause = ""
        self._told = False
        self._usual = 0.0  # seconds that the slowest answer took: a server that is slow is not one that is gone
        self._watch: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self, ends: float) -> Iterator[None]:
        """Around a request, with its repetitions, that is given up at `ends` (monotonic seconds)."""
        if self._waiting == 0:
            self._begin_anew()
            self._ends = ends
            self._watch = asyncio.get_running_loop().create_task(self._watched())
        self._waiting += 1
        self._ends = max(self._ends, ends)
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0 and self._watch is not None:
                self._watch.cancel()
                self._watch = None
                self._told = False

    def answered(self, seconds: float) -> None:
        """The server answered one of them after so many seconds, whatever it said."""
        self._usual = max(self._usual, seconds)
        if self._told:
            self._tell(f"the server at {self._host} answers again, after {time.monotonic() - self._since:.0f} s")
        self._begin_anew()

    def failed(self, cause: str, busy: bool) -> None:
        """An attempt failed. The first is said at once, unless the server only was `busy`."""
        self._cause = cause
        if not self._told and not busy:
            self._now()

    def unusual(self) -> float:
        """Seconds of silence so far, where somebody waits and it is longer than this server usually takes; else 0."""
        silent = time.monotonic() - self._since if self._waiting else 0.0
        return silent if silent >= min(max(FIRST_WORD, 2 * self._usual), SLOWEST) else 0.0

    def _begin_anew(self) -> None:
        self._since = time.monotonic()
        self._pause = min(max(FIRST_WORD, 2 * self._usual), SLOWEST)
        self._cause, self._told = "", False
        self._due = self._since + self._pause

    async def _watched(self) -> None:
        while True:
            await asyncio.sleep(max(0.05, self._due - time.monotonic()))
            if time.monotonic() >= self._due:
                self._now()

    def _now(self) -> None:
        now = time.monotonic()
        for_how_long = f" for {now - self._since:.0f} s" if now - self._since >= 1 else ""
        why = f" ({self._cause})" if self._cause else ""
        left = max(0.0, self._ends - now)
        self._told = True
        self._pause = min(LONGEST, self._pause * GROWTH)
        self._due = now + self._pause
        self._tell(
            f"the server at {self._host} has not answered{for_how_long}{why}: waiting for it, {left:.0f} s more at most"
        )

    def _tell(self, text: str) -> None:
        try:
            self.say(text)
        except Exception:  # whoever listens may be gone: a closed terminal ends no request
            log.warning(text)
