"""The lives of vLLM's servers that precept started: begun, waited for, looked at, ended.

Each is a session of its own, so that it outlives the terminal, and is kept in the project's home, as
`home/engines/NAME.json`, with its log beside it. A server is its process group: what is left of it when its first
process is gone is ended with it. Only processes that are the recorded ones (by when they began) are ever ended.
Linux alone: it reads /proc.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from service.queries.processes import began
from service.vllm.launch import mend

FOLDER = "engines"
FIRST_PORT = 8000
ENDS_WITHIN = 7.0  # seconds that a server has to end by itself when it is told to
KILLED_WITHIN = 2.5  # seconds after it was killed
WORDS = 15  # lines of a log that are shown


@dataclass(frozen=True)
class Server:
    """`name`: the server's own. `model`: what a request asks for. `adapters`: names of LoRA adapters beside it.
    `began`: when its process began, in the machine's ticks. `devices`: "" for all that vLLM finds."""

    name: str
    model: str
    folder: str
    tokenizer: str
    revision: str
    dtype: str
    host: str
    port: int
    devices: str
    pid: int
    began: str
    started: str
    log: str
    adapters: list[str] = field(default_factory=list)
    shares: bool = False  # it was told how much of its devices it may have
    dev: bool = False
    starts: bool = False  # whoever started it waits for its first token

    @property
    def root(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "url": self.url}


def known(home: Path) -> list[Server]:
    """The servers that were started in this home and not ended yet, by name; a record that cannot be read is none."""
    found = []
    for file in sorted((home / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            found.append(Server(**json.loads(file.read_text(encoding="utf-8"))))
    return found


def is_up(server: Server) -> bool:
    """Whether its first process is there, and not another with its number."""
    return bool(server.began) and began(server.pid) == server.began


def members(server: Server) -> list[int]:
    """The processes that belong to it and are not over."""
    if not is_up(server) and Path(f"/proc/{server.pid}").exists() and began(server.pid):
        return []  # its number is another's today
    return [pid for pid, group in _groups() if group == server.pid]


def memory(server: Server) -> int:
    """Bytes of memory that its processes hold, what several of them share counted once where the system tells."""
    return sum(_held(pid) for pid in members(server))


def gpu_memory(server: Server) -> int | None:
    """Bytes of the GPUs' memory that its processes hold, as NVIDIA's tool tells it; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    ask = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=10)
    ours, rows = set(members(server)), [line.split(",") for line in done.stdout.splitlines()]
    return sum(int(used) * 2**20 for pid, used in rows if int(pid) in ours and used.strip().isdigit())


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One at a time chooses a port and a name in this home."""
    (home / FOLDER).mkdir(parents=True, exist_ok=True)
    with (home / FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refuse_taken(name: str, devices: str, shares: bool, servers: list[Server]) -> None:
    """Raise UserError where a server of this name is up, or one that has a device for itself."""
    for other in (server for server in servers if members(server)):
        if other.name == name:
            raise UserError(
                f"a server called {name} is up already, at {other.url}: end it with `precept engine down {name}`, or "
                f"call the new one otherwise: --name {name}-2"
            )
        both = set(filter(None, devices.split(","))) & set(filter(None, other.devices.split(",")))
        if both and not (shares and other.shares):
            raise UserError(
                f"the server {other.name} has device {', '.join(sorted(both))}: name another with --device, or end it "
                f"(precept engine down {other.name}) and give each a share: -- --gpu-memory-utilization 0.4"
            )


def free_port(host: str, wanted: int, servers: list[Server]) -> int:
    """The port that is wanted, or the first free one from 8000 on. Raises UserError where it is taken."""
    reserved = {server.port: server.name for server in servers if members(server)}
    free = (port for port in range(FIRST_PORT, FIRST_PORT + 1000) if port not in reserved and _is_free(host, port))
    if not wanted:
        found = next(free, 0)
        if not found:
            raise UserError(f"no port from {FIRST_PORT} on is free on {host}; name one: --port N")
        return found
    if wanted in reserved or not _is_free(host, wanted):
        whose = f"the server {reserved[wanted]}" if wanted in reserved else "another process"
        raise UserError(
            f"port {wanted} is taken by {whose}: leave out --port, or take a free one: --port {next(free, 'N')}"
        )
    return wanted


def start(home: Path, server: Server, command: list[str], environment: Mapping[str, str]) -> tuple[Server, Any]:
    """Start it, and keep a record of it before anybody waits. Its process comes with it. Raises UserError where there
    is nothing to start."""
    log = Path(server.log)
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        except OSError as error:
            raise UserError(f"{command[0]} cannot be started: {error.strerror}; --python names vLLM's Python") from None
    running = Server(
        **{**asdict(server), "pid": process.pid, "began": began(process.pid),
           "started": datetime.now(UTC).isoformat(timespec="seconds")}
    )  # fmt: skip
    keep(home, running)
    return running, process


def keep(home: Path, server: Server) -> None:
    """Write the record of a server: whole, or as it was."""
    file = _file(home, server.name)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(server), indent=2), encoding="utf-8")
    partial.replace(file)


def wait(
    server: Server, process: Any, probe: Callable[[], str], say: Callable[[float, str], None], limit: float
) -> None:
    """Until `probe` finds nothing wrong. Raises UserError where the server ended, with the end of its log and what to
    do, or where it does not answer within `limit` seconds."""
    began_at, wrong = time.monotonic(), ""
    while time.monotonic() - began_at < limit:
        if (code := process.poll()) is not None:
            raise UserError(
                f"the server {server.name} ended with code {code} while it started; {mend(Path(server.log))}\n"
                f"the end of its log, {server.log}:\n{last_lines(Path(server.log))}"
            )
        wrong = probe()
        if not wrong:
            return
        say(time.monotonic() - began_at, stage(Path(server.log)))
        time.sleep(0.5)
    raise UserError(
        f"the server {server.name} did not answer within {limit:.0f} s ({wrong}) and was ended; give it more: "
        f"--timeout {limit * 2:.0f}\nthe end of its log, {server.log}:\n{last_lines(Path(server.log))}"
    )


def end(home: Path, server: Server) -> bool:
    """End it with all its processes, and forget it; whether anything of it was there. Takes ten seconds at most."""
    there = bool(members(server))
    for how, seconds in ((signal.SIGTERM, ENDS_WITHIN), (signal.SIGKILL, KILLED_WITHIN)):
        if not members(server):
            break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, how)
            os.killpg(server.pid, signal.SIGCONT)  # one that was stopped does not hear
        ends = time.monotonic() + seconds
        while members(server) and time.monotonic() < ends:
            _reap(server.pid)
            time.sleep(0.05)
    if left := members(server):
        raise UserError(
            f"the server {server.name} does not end (processes {', '.join(map(str, left))}): whose are they? "
            "Its record is kept"
        )
    _file(home, server.name).unlink(missing_ok=True)
    return there


def last_lines(log: Path, most: int = WORDS) -> str:
    with suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return "\n".join(f"  {line[:300]}" for line in lines[-most:])
    return "  (there is no log)"


def stage(log: Path) -> str:
    """What the log said last, in a few words."""
    said = last_lines(log, 1).strip()
    return said.rpartition("] ")[2][:80] if "] " in said else said[:80]


def _file(home: Path, name: str) -> Path:
    return home / FOLDER / f"{name}.json"


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((host, port))
        except OSError:
            return False
    return True


def _groups() -> Iterator[tuple[int, int]]:
    """The process group of every process that is not over."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if state not in "ZX":
                yield int(folder.name), int(group)


def _held(pid: int) -> int:
    for file, name in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    return 0


def _reap(pid: int) -> None:
    """Ask for the exit code of what this process started itself."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
