"""Processes that work on runs: their names, and whether one is still there.

A name has the host, which of the machines or containers of that name it is, the process id, and when it was made with
when the process began, because ids are given again: to another process after a while, and to all of them after the
machine was started again. Of what another machine, or a container beside this one, runs nothing can be told from here,
whatever it is called; nor of what ran here before the machine was started again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path


def own_name() -> str:
    """A name for a worker of this process, a new one each time."""
    place = f"@{_place()}" if _place() else ""
    return f"{socket.gethostname()}{place}:{os.getpid()}:{time.time_ns()}.{began(os.getpid())}"


def host_of(worker: str) -> str:
    return worker.rsplit(":", 2)[0].partition("@")[0]


def present(workers: Mapping[str, int]) -> list[str]:
    """Of workers, and until when (Unix seconds) each said that it would be there, those that are."""
    there = {worker: is_there(worker) for worker in workers}
    return [w for w, found in there.items() if found or (found is None and workers[w] >= time.time())]


def is_there(worker: str) -> bool | None:
    """Whether a worker's process is there; None where it is one of another machine, which cannot be told from here."""
    try:
        host, pid, since = worker.rsplit(":", 2)
        number = int(pid)
    except ValueError:  # not one of our names
        return None
    name, _, place = host.partition("@")
    if name != socket.gethostname() or (place and place != _place()):
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


@functools.cache
def _place() -> str:
    """Which of the machines and containers that share a host's name this is: its boot and its space of process ids.
    Empty where that is not to be had."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return hashlib.sha256(f"{boot} {Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:8]
    except OSError:
        return ""


def began(pid: int) -> str:
    """When a process began, in ticks since the machine was started; empty where that is not to be had, and for one that
    has ended and that nobody has asked for its exit code yet."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
