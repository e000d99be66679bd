"""A real vLLM server on a free port of this machine, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.vllm import launch

STARTS_WITHIN = 600.0  # seconds; 30 to 60 where the machine is not busy
OPTIONS = ("--dtype", "float32", *launch.ON_A_CPU)


@dataclass(frozen=True)
class Served:
    """What runs: `url` is the API's base (it ends in /v1), `model` the name it is served under."""

    url: str
    model: str
    folder: Path
    process: subprocess.Popen[bytes]


@contextmanager
def serve(
    python: Path, folder: Path, log: Path, *options: str, name: str = "served", port: int = 0
) -> Iterator[Served]:
    """Serve the model in `folder` until the block ends; what the server said lies in the file `log`."""
    port = port or free_port()
    where = ("--host", "127.0.0.1", "--port", str(port), "--model", str(folder), "--served-model-name", name)
    environment = launch.environment(os.environ, str(python), "cpu", "")
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", *where, *OPTIONS, *options]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/health", process, log)
            yield Served(f"http://127.0.0.1:{port}/v1", name, folder, process)
        finally:
            stop(process)


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"vLLM did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its engine, which are a session of their own."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
