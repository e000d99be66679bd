"""What Prefect costs: the same steps as tasks of a flow and as plain functions, in turn, in one process.

    python -m benchmarks.overhead [--pairs 3] [--empty] [--json]

Each run answers the sandbox's training prompts, revises them four times and has the revisions judged, in a fresh store.
Start-up (the embedded server, loading the models) is not counted. The goal is at most 2% of the wall time. `--empty`
times a flow that does nothing, as it is run here and with the heartbeats that a server which stays up is sent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import server, session
from flows import steps as tasks
from flows.environment import quiet_prefect
from service.work.progress import Silent
from service.work.roles import role_of
from service.work.work import Work


def steps(work: Work, plain: bool) -> None:
    def call(step: Any, *args: Any, **kwargs: Any) -> Any:
        return (step.__wrapped__ if plain else step)(work, *args, **kwargs)

    policy = call(tasks.start_model)
    call(tasks.respond, "answers", policy, split="train")
    call(tasks.revise, "revisions", of="answers")
    call(tasks.judge_revisions, "revisions")


@flow(name="overhead", validate_parameters=False)
def as_flow(work: Work) -> None:
    steps(work, plain=False)


def timed(root: Path, name: str, plain: bool) -> float:
    flags = {"store": f"sqlite:///{root / name}.db", "home": str(root / name), "revise.rounds": 4}
    with session.at_work("overhead", None, flags, report=Silent()) as work:
        role_of(work, work.start)
        work.wiring.judge(work.settings.judge)
        began = time.perf_counter()
        steps(work, plain=True) if plain else server.through(as_flow, work)
        return time.perf_counter() - began


@flow(name="empty", validate_parameters=False)
def nothing() -> None:
    pass


def empty(times: int = 5) -> dict[str, float]:
    """Median seconds of a flow that does nothing, with heartbeats and without, in turn."""
    seconds: dict[str, list[float]] = {"heartbeats": [], "without": []}
    server.through(nothing)
    for _ in range(times):
        for kind, every in (("heartbeats", 180), ("without", None)):
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: every}):
                began = time.perf_counter()
                server.through(nothing)
                seconds[kind].append(time.perf_counter() - began)
    return {kind: round(statistics.median(values), 2) for kind, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--empty", action="store_true")
    args = parser.parse_args()
    quiet_prefect()
    if args.empty:
        with server.watched():
            print(json.dumps(empty()))
        return
    with tempfile.TemporaryDirectory() as name, server.watched():
        root = Path(name)
        timed(root, "warm", plain=False)  # starts the embedded server and loads what is loaded once
        seconds: dict[str, list[float]] = {"flow": [], "plain": []}
        for n in range(args.pairs):  # in turn: the machine's speed drifts
            for kind, values in seconds.items():
                values.append(timed(root, f"{kind}{n}", plain=kind == "plain"))
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    overhead = medians["flow"] / medians["plain"] - 1
    if args.json:
        print(json.dumps({"seconds": seconds, "medians": medians, "overhead": overhead}))
        return
    flow_seconds, plain_seconds = medians["flow"], medians["plain"]
    print(f"Prefect: {flow_seconds:.2f} s as a flow, {plain_seconds:.2f} s as functions, {overhead:+.1%} (goal: 2%)")


if __name__ == "__main__":
    main()
