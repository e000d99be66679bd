"""One job from beginning to end, in this process: checked, trained, published. Running it again is resuming it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline import trainers, training_rows
from pipeline.models import checkpoint, checks
from pipeline.models.checkpoint import Manifest
from pipeline.trainers import memory, processes, publishing
from pipeline.trainers.progress import Interruption, ProgressFile
from pipeline.trainers.trainer import Job, Method, TrainingStopped

log = logging.getLogger(__name__)

STOPPED = "stopped.json"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM_SAID = (*(f"(os error {number})" for number in NO_ROOM), "unexpected pos", "PytorchStreamWriter failed")
PATIENCE = 30.0  # seconds to wait for another process that trains the same job (a killed flow's, winding up)


def run(
    job: Job,
    *,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    interruption: Interruption | None = None,
    launched: tuple[int, int] = (0, 1),
) -> Manifest:
    """Train a job, or find that it is done. `on_step` gets every line of progress; `launched` says which of how many
    processes this is (see `processes`).

    Raises UserError, TrainingStopped (`stopped.json` in `job.partial` says why, the last good state stays in
    `job.resume`), or KeyboardInterrupt (the state of this step is in `job.resume`).
    """
    method = trainers.load(job.method)
    job = dataclasses.replace(job, arguments=trainers.resolve(job.method, job.arguments))  # nothing is imported yet
    together = processes.join(*launched, job.device)
    with contextlib.ExitStack() as lock:
        try:
            if done := together.once(lambda: _begin(job, method, lock, together.count)):
                return done
            interruption = interruption or Interruption()
            progress = ProgressFile(job, on_step=on_step, interruption=interruption, silent=not together.first)
            memory.reset_peak()
            began = time.monotonic()
            try:
                metrics = method.train(job, progress)
            except TrainingStopped as stop:
                if together.first:
                    reason = {"job": job.id, "reason": str(stop)}
                    (job.partial / STOPPED).write_text(json.dumps(reason) + "\n", encoding="ascii")
                raise
            finally:
                interruption.training = False
            metrics = {**metrics, "seconds": round(time.monotonic() - began, 2)}  # sampling and loading, too
            if (peak := memory.peak(job.device)) is not None:
                metrics = {**metrics, "peak_memory_mb": round(peak / 1e6)}
            return together.once(lambda: publishing.publish(job, method.KIND, metrics))
        except Exception as error:
            if full := _disk_full(error, job):
                raise full from error
            raise


def _begin(job: Job, method: Method, lock: contextlib.ExitStack, count: int) -> Manifest | None:
    """The checkpoint of a job that is done. Else the job is checked, `lock` is held, and `job.partial` is empty."""
    if done := publishing.finished(job):
        return done
    if count > 1 and getattr(method, "ONLINE", False):
        _check_online(job)
    rows = training_rows.read_rows(Path(job.dataset), method.COLUMNS)
    training_rows.check_preferences(Path(job.dataset), rows)
    if job.eval_dataset:
        training_rows.read_rows(Path(job.eval_dataset), method.COLUMNS)
    checks.check_model_folder(Path(job.model))
    if checkpoint.read(Path(job.model)):
        checkpoint.verify(Path(job.model))
    lock.enter_context(_alone(job))
    if done := publishing.finished(job):  # by the process that was waited for
        return done
    shutil.rmtree(job.partial, ignore_errors=True)
    job.partial.mkdir(parents=True)
    log.info("%s %s", job.method, memory.estimate(job, count))
    return None


def _check_online(job: Job) -> None:
    """Raises UserError for what several processes cannot do while they sample."""
    if job.method == "best_of_n":
        raise UserError("best_of_n trains in one process; start it without accelerate launch")
    if processes.sharded():
        raise UserError(
            f"{job.method} samples from the whole model, and FSDP cuts it into parts; use docs/accelerate/ddp.yaml"
        )


@contextlib.contextmanager
def _alone(job: Job) -> Iterator[None]:
    """One process a job: a lock that the system drops when its holder dies. Raises UserError where it is not had."""
    job.resume.mkdir(parents=True, exist_ok=True)
    with (job.resume / "lock").open("a") as lock:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > give_up:
                    raise UserError(f"{job.out}: another process is training this; wait for it or stop it") from None
                time.sleep(0.2)
        yield


def _disk_full(error: BaseException | None, job: Job) -> UserError | None:
    """What a user is told where a file could not be written because there was no room for it; None for other faults."""
    while error is not None:
        number = getattr(error, "errno", None)
        # safetensors has the number in its message; torch.save says that its file is shorter than it should be.
        if number in NO_ROOM or any(sign in str(error) for sign in NO_ROOM_SAID):
            free = shutil.disk_usage(Path(job.out).parent).free / 1e6
            return UserError(
                f"{job.out}: the disk is full ({free:.1f} MB free where it lies); make room and run it again: it goes "
                "on from the last whole state, and every finished checkpoint is as it was"
            )
        error = error.__cause__ or error.__context__
    return None
