"""The process that trains, seen from the one that asks: started early, kept warm, told of jobs one by one.

Importing TRL takes seconds, so one process serves all jobs of a run; it frees its memory when it ends, and a crash in
it is contained. It runs in a session of its own: Ctrl-C reaches it through `run` alone, exactly once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from constitution.errors import UserError
from pipeline.models.checkpoint import Manifest
from pipeline.trainers.publishing import finished
from pipeline.trainers.trainer import Job, TrainingStopped


class TrainingKilled(RuntimeError):
    """The system ended the training process. The message says what to do; what was saved is kept."""


KILLED = (
    "the training process was killed by the system (SIGKILL), as it does when memory runs out; what was answered and "
    "saved is kept. Make per_device_train_batch_size smaller (and gradient_accumulation_steps larger), or set lora, "
    'gradient_checkpointing = true or dtype = "bfloat16", then run the same again'
)
OnProgress = Callable[[Job, dict[str, Any]], None]
ROOT = Path(__file__).parents[2]
UNDER_WAY = ("step", "said")  # events of a training that goes on


class Worker:
    """A training process, or `processes` of them for each job. `env` is added to this process's environment, for
    example {"HF_HUB_OFFLINE": "0"}; `config`: a file of accelerate's, which says how several share a model.

    with Worker() as worker:  # the process starts importing TRL now
        manifest = worker.run(job)
    """

    def __init__(self, env: Mapping[str, str] | None = None, processes: int = 1, config: str = "") -> None:
        self._env = dict(env or {})
        several = processes > 1 or config
        self._how = ["--serve", *([str(processes)] if several else []), *([config] if config else [])]
        self._process: subprocess.Popen[str] | None = None
        self._busy = False  # with a training whose state is worth waiting for
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process where it is not running; returns at once."""
        if self._process is not None and self._process.poll() is None:
            return
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.trainers", *self._how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, **self._env},
            start_new_session=True,
        )

    def run(
        self, job: Job, on_progress: OnProgress | None = None, say: Callable[[str], None] | None = None
    ) -> Manifest:
        """Train a job and return its checkpoint's manifest; a job that is done returns at once, asking no process.

        `say` gets what an engine of the training says (its server does not answer), `on_progress` every line of
        progress (`step`, `total`, `time`, `loss`, ...). Raises UserError for a user's mistake, TrainingStopped,
        KeyboardInterrupt (after the state was saved; the same for anything `on_progress`
        raises), TrainingKilled where the system ended the process, and RuntimeError with the end of the log where it
        fails.
        """
        if done := finished(job):
            return done
        self.start()
        assert self._process is not None and self._process.stdin is not None
        file = job.resume / "job.json"
        job.write(file)
        self._busy = True
        try:
            self._process.stdin.write(f"{file.resolve()}\n")
            self._process.stdin.flush()
            while (event := self._next())["event"] in UNDER_WAY:
                if event["event"] == "said":
                    if say:
                        say(str(event["message"]))
                elif on_progress:
                    on_progress(job, {key: value for key, value in event.items() if key != "event"})
        except BrokenPipeError:
            raise self._died() from None
        except BaseException:
            self._interrupt()
            raise
        self._busy = False
        return self._result(event)

    def kill(self) -> None:
        """End the process at once: it saves nothing any more."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process; a training in progress saves its state first. One that only waits, or still imports what it
        may need, has nothing to save."""
        if self._process is None:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        if not self._busy:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._process = None
        self._log.close()

    def _next(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._died()
        event: dict[str, Any] = json.loads(line)
        return event

    def _interrupt(self) -> None:
        """Ask the training to save and stop, and wait until it has; a second Ctrl-C while waiting ends it at once."""
        assert self._process is not None
        try:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(RuntimeError):
                while self._next()["event"] in UNDER_WAY:
                    pass
            self._busy = False
        except BaseException:  # Prefect raises an exception of its own for SIGTERM
            self._process.kill()
            raise

    def _result(self, event: dict[str, Any]) -> Manifest:
        if event["event"] == "done":
            return Manifest(**event["manifest"])
        message = str(event["message"])
        if event["event"] == "user_error":
            raise UserError(message)
        if event["event"] == "stopped":
            raise TrainingStopped(message, event["good_steps"])
        if event["event"] == "interrupted":
            raise KeyboardInterrupt(message)
        if event["event"] == "died" and event["killed"]:
            raise TrainingKilled(KILLED)
        raise RuntimeError(f"training failed: {message}\n{self._log_tail()}")

    def _died(self) -> RuntimeError:
        assert self._process is not None
        code = self._process.wait()
        self._busy = False
        if code == -signal.SIGKILL:
            return TrainingKilled(KILLED)
        return RuntimeError(f"the training process ended with code {code}\n{self._log_tail()}")

    def _log_tail(self, size: int = 4_000) -> str:
        # Not by seeking: the process writes at the offset that it shares with this file.
        descriptor = self._log.fileno()
        end = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, max(0, end - size)).decode("utf-8", errors="replace")


def launch(
    jobs: Sequence[Job],
    *,
    on_progress: OnProgress | None = None,
    say: Callable[[str], None] | None = None,
    env: Mapping[str, str] | None = None,
    processes: int = 1,
) -> list[Manifest]:
    """Train jobs in order in a process that is started for them, or in several; see `Worker`."""
    with Worker(env, processes) as worker:
        return [worker.run(job, on_progress, say) for job in jobs]
