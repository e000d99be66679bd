"""The requests that wait for the model, and the one thread that runs it.

Whatever waits when the model is free is computed together: readings first, which are short, then what is generated.
What comes meanwhile waits for the batch's end. There is room for `most` texts, waiting or at work; more are refused at
once (`Full`), so that a flood costs no memory.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from pipeline.engines.engine import Refused
from pipeline.serving.model import Continue, Read, ServedModel, Step

log = logging.getLogger(__name__)
TOGETHER = 256  # texts that are generated in one go, which the engine cuts by its batch size
LEAVE = 5.0  # seconds that the thread is given to come to an end

Found: TypeAlias = "list[int] | list[Step] | Refused"


class Full(RuntimeError):
    """There are as many texts as there is room for."""


class Closed(RuntimeError):
    """The server is being stopped."""


@dataclass(eq=False)
class Job:
    """`done` is what was found, or what went wrong; a job whose `done` was cancelled is left out, and in the middle of
    its text ended."""

    asked: Continue | Read
    done: Future[Found] = field(default_factory=Future)


class Waiting:
    def __init__(self, model: ServedModel, most: int) -> None:
        self._model, self.most = model, most
        self._waiting: deque[Job] = deque()
        self._inside = 0  # texts that wait or are at work
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def put(self, asked: Sequence[Continue | Read]) -> list[Job]:
        """All of them, or none. Raises Full and Closed."""
        jobs = [Job(each) for each in asked]
        with self._changed:
            if self._closed:
                raise Closed
            if self._inside + len(jobs) > self.most:
                raise Full
            self._inside += len(jobs)
            self._waiting.extend(jobs)
            self._changed.notify()
        return jobs

    def close(self) -> None:
        """End what is at work at its next token, and the thread. What waits fails with Closed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(LEAVE)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                jobs = list(self._waiting)
                self._waiting.clear()
                if self._closed:
                    self._fail(jobs, Closed())
                    return
            left = [job for job in jobs if not job.done.cancelled()]
            self._forget(len(jobs) - len(left))
            texts = [job for job in left if isinstance(job.asked, Continue)]
            if len(texts) > TOGETHER:
                with self._changed:
                    self._waiting.extendleft(reversed(texts[TOGETHER:]))
            self._run([job for job in left if isinstance(job.asked, Read)], self._reading)
            self._run(texts[:TOGETHER], self._continuing)

    def _reading(self, jobs: Sequence[Job]) -> Sequence[Any]:
        return self._model.read([job.asked for job in jobs if isinstance(job.asked, Read)])

    def _continuing(self, jobs: Sequence[Job]) -> Sequence[Any]:
        return self._model.continued([self._until_over(job) for job in jobs])

    def _until_over(self, job: Job) -> Continue:
        """What is asked, ended where it is given up; the whole batch where the server is being stopped."""
        asked = job.asked
        assert isinstance(asked, Continue)

        def ended(written: list[int]) -> bool:
            if self._closed:
                raise Closed
            return job.done.cancelled() or asked.ended(written)

        return replace(asked, ended=ended)

    def _run(self, jobs: Sequence[Job], run: Callable[[Sequence[Job]], Sequence[Any]]) -> None:
        if not jobs:
            return
        try:
            found = run(jobs)
        except Exception as error:  # whoever asked is told, and the server goes on
            if not isinstance(error, Closed):
                log.exception("a batch of %d texts failed", len(jobs))
            self._fail(jobs, error)
        else:
            for job, one in zip(jobs, found, strict=True):
                with suppress(InvalidStateError):  # it was given up
                    job.done.set_result(one)
        self._forget(len(jobs))

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            with suppress(InvalidStateError):
                job.done.set_exception(error)

    def _forget(self, count: int) -> None:
        with self._changed:
            self._inside -= count
