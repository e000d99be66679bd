"""Several processes that train a job together, started and watched: `python -m pipeline.trainers --serve N [CONFIG]`.

It speaks as the process that trains alone does: job files come in, one a line, and events go out. It starts N processes
with the environment that `accelerate launch` would give them (FSDP and DeepSpeed are said in CONFIG, a file of
accelerate's own) and hands each job to all of them. An interruption is handed to the first, which tells the others at
the end of the step. Where one dies, the others are ended and it is told what of; when whoever asked is gone, what was
asked for is saved and given up. After anything but a finished job, the next one has processes of its own.

accelerate's own launcher hands no interruption on, and tells nobody which process died of what.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from constitution.errors import UserError

POLL = 0.05  # seconds
MOURNING = 3.0  # seconds that the first has to say something after another died
UNDER_WAY = ("step", "said")
Tell = Callable[[str, Mapping[str, Any]], None]


def environments(count: int, config: str) -> list[dict[str, str]]:
    """Of each of the processes. Raises UserError for a file that accelerate cannot use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = _by_accelerate(count, config) if config else dict(os.environ)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [{**given, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _by_accelerate(count: int, config: str) -> dict[str, str]:
    """What `accelerate launch --config_file CONFIG` would put into the environment."""
    from accelerate.commands import launch

    command = ["--config_file", config, "--num_processes", str(count), "--main_process_port", "0", "-m", __package__]
    try:
        arguments, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(command))
        if (arguments.num_machines or 1) > 1:
            raise UserError(
                f"{config}: a flow starts processes on its own machine; for {arguments.num_machines} machines launch "
                "the job's file yourself (docs/train.md), and the flow finds what it made"
            )
        arguments.num_machines = 1
        if arguments.use_deepspeed:
            return dict(launch.prepare_deepspeed_cmd_env(arguments)[1])
        return dict(launch.prepare_multi_gpu_env(arguments))
    except UserError:
        raise
    except Exception as error:  # of YAML, argparse, accelerate: whatever is wrong with the file
        raise UserError(f"{config}: accelerate cannot use it: {str(error) or type(error).__name__}") from None


class Together:
    """The processes. What the first of them says comes in as lines of `heard`, and None when it ends."""

    def __init__(self, each: Iterable[Mapping[str, str]]) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "pipeline.trainers", "--serve"],
                env=dict(env),
                stdin=subprocess.PIPE,  # which ends when this process does, and they with it
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
            for rank, env in enumerate(each)
        ]
        self.heard: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.processes[0].stdout is not None
        for line in self.processes[0].stdout:
            self.heard.put(line)
        self.heard.put(None)

    def train(self, file: str, tell: Tell, interrupted: Callable[[], bool]) -> tuple[str, dict[str, Any]]:
        """The last event of a job; those before it are told."""
        for process in self.processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{file}\n")
                process.stdin.flush()
        asked_to_stop, died = False, 0.0
        while True:
            if interrupted() and not asked_to_stop:
                asked_to_stop = True
                self.processes[0].send_signal(signal.SIGINT)
            try:
                line = self.heard.get(timeout=POLL)
            except queue.Empty:
                line = ""
            died = died or (time.monotonic() if self._codes() else 0.0)
            if line is None or (died and time.monotonic() > died + MOURNING):
                return self._ended(asked_to_stop)
            event, fields = _read(line) if line else ("", {})
            if event in UNDER_WAY:
                tell(event, fields)
            elif event == "failed":  # of itself, or of another's death, which it hears of sooner than we do
                ends = time.monotonic() + MOURNING
                while not self._codes() and time.monotonic() < ends:
                    time.sleep(POLL)
                return self._ended(asked_to_stop) if self._codes() else (event, fields)
            elif event:
                return event, fields

    def _codes(self) -> dict[int, int]:
        """By its number, the code of each that has ended, none of which should before we say so."""
        return {rank: code for rank, each in enumerate(self.processes) if (code := each.poll()) is not None}

    def _ended(self, asked_to_stop: bool) -> tuple[str, dict[str, Any]]:
        if asked_to_stop:
            return "interrupted", {"message": "interrupted; run it again to go on"}
        time.sleep(POLL)
        codes = self._codes()
        killed = -signal.SIGKILL in codes.values()
        which = ", ".join(f"process {rank} with code {code}" for rank, code in codes.items())
        return "died", {"killed": killed, "message": f"of {len(self.processes)} training processes ended {which}"}

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _read(line: str) -> tuple[str, dict[str, Any]]:
    fields = json.loads(line)
    return str(fields.pop("event")), fields


def serve(count: int, config: str, files: Iterable[str], tell: Tell, interruption: Any) -> None:
    """Train the jobs of the files, each in `count` processes. `tell` gets event and fields; see `__main__`."""
    together: Together | None = None
    try:
        with contextlib.suppress(UserError):  # it is told with the first job
            together = Together(environments(count, config))
        for file in files:
            interruption.training = True  # a first Ctrl-C is theirs
            try:
                together = together or Together(environments(count, config))
                event, fields = together.train(file, tell, lambda: bool(interruption.requested))
            except UserError as error:
                event, fields = "user_error", {"message": str(error)}
            if event != "done" and together:
                together.close()
                together = None
            tell(event, fields)
            interruption.training = interruption.requested = False
    finally:
        if together:
            together.close()
