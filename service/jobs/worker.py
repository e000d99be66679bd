"""The worker: takes jobs one by one, and ends when there was none for some minutes, which gives all memory back.

Engines stay loaded from one job to the next. A job that is cancelled stops at its next batch; one that does not, or
that takes longer than it may, ends with the process, and the next worker goes on with the others. A job whose worker
was killed is begun once more, and has failed after that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from constitution.errors import UserError
from pipeline.engines.engine import EngineError
from service import jobs
from service.queries.processes import is_there, own_name
from service.settings import Settings, prepare_process
from service.wiring import Wiring
from service.work.budget import BudgetReached
from service.work.progress import Stage, Uncounted
from storage.jobs import StoredJob
from storage.store import Store

IDLE = 300.0  # seconds without a job until the worker ends
LOOK = 0.5  # seconds between two looks
PATIENCE = 5.0  # seconds that a cancelled job may take to stop by itself
TIME = 1800.0  # seconds that one job may take
TRIES = 2
KILLED = "the process that worked on it was killed (by the system, where memory ran out)"


class _Cancelled(BaseException):
    """Goes through every handler of faults, as an interrupt does."""


def work(settings: Settings, *, idle: float = IDLE, time_limit: float = TIME) -> int:
    """Take jobs until there is none for `idle` seconds; returns how many were done."""
    prepare_process(settings)
    name, parent, done, last = own_name(), os.getppid(), 0, time.monotonic()
    wiring = Wiring(settings)
    try:
        while time.monotonic() - last < idle and os.getppid() == parent:
            take_back(wiring.store)
            job = wiring.store.take_job(name)
            if job is None:
                time.sleep(LOOK)
                continue
            _do(wiring, job, name, time_limit)
            done, last = done + 1, time.monotonic()
    finally:
        wiring.close()
    return done


def take_back(store: Store) -> None:
    """Give back what workers held that are no more."""
    for job in store.jobs(("running",)):
        if job.worker is not None and is_there(job.worker) is False:
            store.give_back_job(job.id, job.worker, TRIES, KILLED)


def _do(wiring: Wiring, job: StoredJob, name: str, time_limit: float) -> None:
    store = wiring.store
    wiring.__dict__.pop("constitution", None)  # it may have been amended since the job before
    told = _Told(store, job, name)
    watch = threading.Event()
    threading.Thread(target=_mind, args=(store, job, name, time_limit, watch, told), daemon=True).start()
    try:
        result = jobs.load(job.kind).work(wiring, job.payload, job.who, told)
        store.end_job(job.id, name, "finished", result)
    except _Cancelled:
        pass
    except (UserError, EngineError, BudgetReached) as error:
        store.end_job(job.id, name, "failed", error=str(error))
    except Exception as error:  # a job that fails ends no worker
        store.end_job(job.id, name, "failed", error=f"{type(error).__name__}: {error}")
    finally:
        watch.set()


def _mind(store: Store, job: StoredJob, name: str, limit: float, over: threading.Event, told: _Told) -> None:
    """Look after a job from beside it: its words go into the store, and it ends when it must."""
    began, stop = time.monotonic(), None
    while not over.wait(LOOK):
        mine = store.say_of_job(job.id, name, told.last)
        if not mine and not over.is_set():
            told.cancelled = True
            stop = stop or time.monotonic()
            if time.monotonic() - stop > PATIENCE:
                os._exit(3)
        if time.monotonic() - began > limit:
            store.end_job(job.id, name, "failed", error=f"it took longer than {limit:g} seconds, and was ended")
            os._exit(3)


class _Told:
    """Progress, for who waits at a page. Raises _Cancelled in the job where nobody does any more."""

    def __init__(self, store: Store, job: StoredJob, name: str) -> None:
        self.last, self.cancelled = "begun", False

    def say(self, text: str) -> None:
        self.last = text.strip()[:300] or self.last
        if self.cancelled:
            raise _Cancelled

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        self.say(f"{name}: 0 of {total}")
        yield _Step(self, name, total)


class _Step(Uncounted):
    def __init__(self, told: _Told, name: str, total: int) -> None:
        super().__init__(total)
        self._told, self._name = told, name

    def advance(self, n: int = 1, note: str = "") -> None:
        super().advance(n, note)
        self._told.say(f"{self._name}: {self.done} of {self.total}")
