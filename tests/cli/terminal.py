"""`precept` in a process of its own, on a terminal or on pipes, and the processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pexpect

from cli import main

ROOT = Path(main.__file__).parents[1]
NOBODY = "http://127.0.0.1:1/api"  # where no Prefect server answers: a run goes on without one, at once
PATIENCE = 10.0  # seconds a signalled process may take


def environment(**changed: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100", **changed}


def spawn(*words: object, timeout: float = 120, **changed: str) -> pexpect.spawn[str]:
    """On a terminal of its own."""
    command = ["-m", "cli.main", *map(str, words)]
    env = environment(**{"TERM": "xterm", **changed})
    return pexpect.spawn(sys.executable, command, env=env, encoding="utf-8", timeout=timeout, dimensions=(60, 160))


def ended(child: pexpect.spawn[str], within: float = PATIENCE) -> tuple[int | None, str]:
    """The exit code, and what was printed since the last thing that was waited for. Fails where it takes longer."""
    child.expect(pexpect.EOF, timeout=within)
    said = child.before or ""
    child.close()
    return child.exitstatus, said


def lines(said: str) -> list[str]:
    """What a terminal was told, without the lines of progress bars and without escape sequences."""
    kept = [line.rpartition("\x1b[?25h")[2].removeprefix("^C").strip() for line in said.splitlines()]
    return [line for line in kept if line and "━" not in line and "\x1b" not in line]


def call(*words: object, stdout: int | IO[Any] = subprocess.PIPE, **changed: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cli.main", *map(str, words)]
    return subprocess.run(
        command,
        env=environment(**changed),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
    )


def children(pid: int, holding: str) -> list[int]:
    """The processes that this one started whose command line has these words."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = folder.joinpath("cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if parent == pid and holding in command:
            found.append(int(folder.name))
    return found


def child_of(pid: int, holding: str, patience: float = 60) -> int:
    """The first such process, waited for."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        if found := children(pid, holding):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"{pid} started no process {holding!r}")


def gone(pid: int, patience: float = PATIENCE) -> bool:
    """Whether the process ends; one that nobody has asked for its exit code counts as ended."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False
