"""A Prefect server of a test's own, on a port of its own, with workers and command lines beside it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cli import main

ROOT = Path(main.__file__).parents[1]


@dataclass
class Prefect:
    """Where it is to run; nothing runs before `start("server", "start")`."""

    folder: Path
    port: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *words: str) -> None:
        """Start a Prefect command in the background."""
        with (self.folder / f"{words[0]}.log").open("wb") as log:
            command = [sys.executable, "-m", "prefect", *words]
            self.running.append(
                subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
            )

    def precept(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command line in a process of its own."""
        command = [sys.executable, "-m", "cli.main", *words]
        return subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def all(self, what: str) -> list[dict[str, Any]]:
        """`flow_runs`, `automations` or `deployments`, as the server tells of them."""
        found: list[dict[str, Any]] = httpx.post(f"{self.url}/{what}/filter", json={}, timeout=60).json()
        return found


@contextmanager
def prefect(folder: Path) -> Iterator[Prefect]:
    """All that was started ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = Prefect(folder, port)
    try:
        yield place
    finally:
        for process in reversed(place.running):
            process.terminate()
        for process in place.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(found: Callable[[], Any], seconds: float) -> Any:
    """What is found as soon as it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.3)
    raise AssertionError(f"nothing came of it in {seconds} s")
