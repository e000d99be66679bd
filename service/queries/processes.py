"""Processes that work on runs: their names, and whether one is still there.

A name has the host, the process id, and when it was made with when the process began, because ids are given again: to
another process after a while, and to all of them after the machine was started again.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path


def own_name() -> str:
    """A name for a worker of this process, a new one each time."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}.{began(os.getpid())}"


def host_of(worker: str) -> str:
    return worker.rsplit(":", 2)[0]


def is_there(worker: str) -> bool | None:
    """Whether a worker's process is there; None where it is one of another machine, which cannot be told from here."""
    try:
        host, pid, since = worker.rsplit(":", 2)
        number = int(pid)
    except ValueError:  # not one of our names
        return None
    if host != socket.gethostname():
        return None
    if number == os.getpid():
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    start = since.partition(".")[2]
    return not start or start == began(number)


def began(pid: int) -> str:
    """When a process began, in ticks since the machine was started; empty where that is not to be had, and for one that
    has ended and that nobody has asked for its exit code yet."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
