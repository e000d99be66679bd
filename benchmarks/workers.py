"""Several workers on one run, with an engine that waits for a server: how much faster, and the same store?

    python -m benchmarks.workers [--postgres] [--wait 1.0] [--json]

A server in this process answers each request after a while and counts them. Each worker is a process that answers,
criticises, revises and judges in one run; the clock runs from when all are ready. It prints four workers against one
(goal: 3.5 x), one worker with several batches in flight against one with a batch at a time (the same requests at once,
answers of uneven length), and whether the store is one worker's and nothing was asked twice; then the same with one
worker killed and one stopped until its leases are another's, where what those two had in flight has to be asked again.
SQLite, and with `--postgres` a server of its own (initdb). On a busy machine, where a worker is slow itself, let the
server wait longer (`--wait 5`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from benchmarks.kills import TABLES
from benchmarks.waiting_server import Waiting, waiting

CONSTITUTION = """
constitution: one
version: 1
principles:
  - {id: kind, title: Kind, critique: Find what is rude., revision: Be kind., comparison: Which is kinder?}
"""
ROLE = """kind = "openai"
model = "waits"
revision = "1"
base_url = "{url}"
batch_size = {batch}
options = {{dialect = "chat", concurrency = {at_once}}}
"""
SETTINGS = """
store = "{store}"
home = "{home}"
prompts = "{home}/prompts.jsonl"
constitution = "{home}/principles.yaml"
oracle = ""
[policy]
{role}[judge]
{role}[evaluator]
kind = "scripted"
model = "{home}/none.yaml"
[revise]
rounds = 1
[compare]
questions_per_batch = {questions}
[limits]
stop_at_chance = false  # the server's judge says what a hash says
"""
DRIVE = """
import json, sys, time
from pathlib import Path
from pipeline import asking
from service import settings as given
from service.queries.base_run import wire
from service.work import deciding, holding, life, stages
from service.work.progress import Silent
file, lease, most = sys.argv[1:]
holding.LEASE, asking.MOST = float(lease), int(most)
settings, _ = given.load(Path(file), {})
wiring = wire("revise", settings)
with life.of_prompts(wiring, "revise", who="benchmark", report=Silent()) as work:
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    policy = stages.start_model(work)
    stages.respond(work, "answers", policy, split="train")
    stages.revise(work, "revisions", of="answers")
    stages.judge_revisions(work, "revisions")
    print(json.dumps(time.monotonic() - began), flush=True)
    deciding.finish(work)
wiring.close()
"""
LEASE = 60.0
Contents = dict[str, list[tuple[object, ...]]]


class Place:
    """A folder with settings, a constitution and prompts, and an empty store."""

    def __init__(self, home: Path, server: Waiting, store: str, *, prompts: int, batch: int, at_once: int) -> None:
        home.mkdir(parents=True)
        self.file, self.store = home / "precept.toml", store
        role = ROLE.format(url=server.url, batch=batch, at_once=at_once)
        self.file.write_text(SETTINGS.format(home=home, store=store, role=role, questions=batch))
        (home / "principles.yaml").write_text(CONSTITUTION)
        (home / "none.yaml").write_text("rules: [{text: nothing}]\n")
        rows = [{"prompt": f"How do I do the thing number {n}?", "split": "train"} for n in range(prompts)]
        (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def worker(self, name: str, lease: float, most: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", DRIVE, str(self.file), str(lease), str(most)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OPENAI_API_KEY": name}
        )

    def contents(self) -> Contents:
        engine = create_engine(self.store.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            found = {name: sorted(map(tuple, connection.execute(text(query)))) for name, query in TABLES.items()}
        engine.dispose()
        return found


def together(
    place: Place,
    workers: int,
    *,
    lease: float = LEASE,
    most: int = 1,
    meanwhile: Callable[[list[subprocess.Popen[str]]], None] = lambda started: None,
) -> float:
    """Seconds from when all workers are ready until the last has done its work. Those that are killed do none."""
    started = [place.worker(f"worker-{n}", lease, most) for n in range(workers)]
    for process in started:
        assert process.stdout is not None and process.stdin is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a worker did not start")
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    meanwhile(started)
    seconds = []
    for process in started:
        out, _ = process.communicate()
        if process.returncode == -signal.SIGKILL:
            continue
        if process.returncode:
            raise RuntimeError(f"a worker ended with code {process.returncode}")
        seconds.append(float(out.splitlines()[-1]))
    return max(seconds)


def interrupted(server: Waiting, loop: asyncio.AbstractEventLoop, batch: int, lease: float) -> Callable[..., None]:
    """The first worker is killed, and the second stopped for longer than its lease, each with a batch in flight."""

    def meanwhile(started: list[subprocess.Popen[str]]) -> None:
        server.wait_for("worker-0", 2 * batch)
        started[0].send_signal(signal.SIGKILL)
        server.keep("worker-1")
        server.wait_for("worker-1", server.of["worker-1"] + batch)
        started[1].send_signal(signal.SIGSTOP)
        server.release(loop)
        for other in started[2:]:
            other.wait()
        time.sleep(max(0.0, lease))
        started[1].send_signal(signal.SIGCONT)

    return meanwhile


@contextmanager
def databases(root: Path, postgres: bool) -> Iterator[dict[str, Callable[[str], str]]]:
    """By name, what gives the URL of a store that is empty yet."""
    made: dict[str, Callable[[str], str]] = {"sqlite": lambda name: f"sqlite:///{root / name}.db"}
    if not postgres:
        yield made
        return
    from tests.conftest import postgres_server

    with postgres_server() as server:
        yield made | {"postgres": lambda name: server.new_schema()}


def measure(root: Path, name: str, store: Callable[[str], str], latency: float) -> dict[str, object]:
    batch, short, lease = 4, 0.15, 3.0
    with waiting(lambda share: latency) as (server, loop):

        def run(label: str, workers: int, prompts: int, **how: object) -> tuple[float, Contents, int, int]:
            server.clear()
            place = Place(root / name / label, server, store(label), prompts=prompts, batch=batch, at_once=batch)
            seconds = together(place, workers, **how)  # type: ignore[arg-type]
            return seconds, place.contents(), len(server.asked), server.asked.total() - len(server.asked)

        one, clean, requests, _ = run("one", 1, 32)
        four, shared, _, twice = run("four", 4, 32)
        server.latency = lambda share: short
        _, plain, _, _ = run("plain", 1, 24)
        _, mended, _, again = run("mended", 4, 24, lease=lease, meanwhile=interrupted(server, loop, batch, lease))
        in_flight = 2 * batch  # of the killed, and of the stopped worker

        # As many requests at once as fit into a batch, and answers of which a few take long.
        server.latency = lambda share: 0.1 - 0.15 * math.log(1 - share)
        server.clear()
        batch = 16
        alone, single, _, _ = run("one at a time", 1, 64, most=1)
        window, several, _, twice_in_window = run("in flight", 1, 64, most=16)
    return {
        "database": name, "requests": requests, "one_s": round(one, 1), "four_s": round(four, 1),
        "four_workers": round(one / four, 2), "same_store": shared == clean, "asked_twice": twice,
        "killed_and_stopped": {
            "same_store": mended == plain, "asked_twice": again, "in_flight_when_killed_or_stopped": in_flight,
        },
        "a_batch_at_a_time_s": round(alone, 1), "in_flight_s": round(window, 1), "window": round(alone / window, 2),
        "window_same_store": several == single, "window_asked_twice": twice_in_window,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--wait", type=float, default=1.0, metavar="SECONDS", help="of a request, where 4 work")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wrong = False
    with tempfile.TemporaryDirectory() as folder, databases(Path(folder), args.postgres) as stores:
        for name, store in stores.items():
            found = measure(Path(folder), name, store, args.wait)
            ended = found["killed_and_stopped"]
            assert isinstance(ended, dict)
            right = found["same_store"] and found["window_same_store"] and ended["same_store"]
            late = ended["asked_twice"] > ended["in_flight_when_killed_or_stopped"]
            wrong |= not right or bool(found["asked_twice"] or found["window_asked_twice"]) or late
            print(json.dumps(found) if args.json else _line(found, ended), flush=True)
    sys.exit(wrong)


def _line(found: dict[str, object], ended: dict[str, object]) -> str:
    return (
        f"{found['database']}: 4 workers {found['four_workers']} x ({found['one_s']} s, {found['four_s']} s), asked "
        f"twice {found['asked_twice']}, same store {found['same_store']}; batches in flight {found['window']} x "
        f"({found['a_batch_at_a_time_s']} s, {found['in_flight_s']} s), same store {found['window_same_store']}; one "
        f"killed and one stopped: same store {ended['same_store']}, asked twice {ended['asked_twice']} (in flight "
        f"then: {ended['in_flight_when_killed_or_stopped']})"
    )


if __name__ == "__main__":
    main()
