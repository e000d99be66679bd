"""One job from beginning to end, in this process: checked, trained, published. Running it again is resuming it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline import trainers
from pipeline.trainers import checkpoint, checks
from pipeline.trainers.checkpoint import Manifest
from pipeline.trainers.progress import Interruption, Progress
from pipeline.trainers.trainer import Job, TrainingStopped

STOPPED = "stopped.json"
PATIENCE = 30.0  # seconds to wait for another process that trains the same job (a killed flow's, winding up)


def run(
    job: Job,
    *,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    interruption: Interruption | None = None,
) -> Manifest:
    """Train a job, or find that it is done. `on_step` gets every line of progress.

    Raises UserError, TrainingStopped (`stopped.json` in `job.partial` says why, the last good state stays in
    `job.resume`), or KeyboardInterrupt (the state of this step is in `job.resume`).
    """
    method = trainers.load(job.method)
    job = dataclasses.replace(job, arguments=trainers.resolve(job.method, job.arguments))
    if done := checkpoint.finished(job):
        return done
    checks.read_rows(Path(job.dataset), method.COLUMNS)
    if job.eval_dataset:
        checks.read_rows(Path(job.eval_dataset), method.COLUMNS)
    checks.check_model_folder(Path(job.model))
    with _alone(job):
        if done := checkpoint.finished(job):  # by the process that was waited for
            return done
        shutil.rmtree(job.partial, ignore_errors=True)
        job.partial.mkdir(parents=True)
        interruption = interruption or Interruption()
        watch = Progress(job, on_step=on_step, interruption=interruption)
        try:
            metrics = method.train(job, watch)
        except TrainingStopped as stop:
            reason = {"job": job.id, "reason": str(stop)}
            (job.partial / STOPPED).write_text(json.dumps(reason) + "\n", encoding="ascii")
            raise
        finally:
            interruption.training = False
        return checkpoint.publish(job, method.KIND, metrics)


@contextmanager
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
