"""What the queries of pages and of reviewers take in a big store: milliseconds, statements, and scans.

Used by `python -m benchmarks.big_store URL --measure`, which prints a line of JSON a query. `ms` is the best of five.
`scans`: tables that the plan of the slowest statement reads whole, as SQLite's EXPLAIN QUERY PLAN or Postgres' EXPLAIN
tells; Postgres scans small tables although it has an index. What people do here (an answer, an undo) is stored.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import event

from storage.claims import REVIEW
from storage.runs import now
from storage.store import Store

TIMES = 5
YEAR = 365 * 86_400.0


def measure(store: Store) -> None:
    for name, times, work in _queries(store):
        best, sent = float("inf"), list[tuple[float, str, Any]]()
        for _ in range(times):
            began = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - began)
        with _watched(store, sent):
            work()
        sent.sort(key=lambda one: -one[0])
        scans = _scans(store, *sent[0][1:]) if sent else []
        print(json.dumps({"query": name, "ms": round(best * 1_000, 2), "statements": len(sent), "scans": scans}))


def _queries(store: Store) -> Iterator[tuple[str, int, Callable[[], object]]]:
    run = next(run for run in store.runs() if run.kind == "improve")
    page = store.runs(most=20)
    checkpoint = store.checkpoints()[20]
    checks = iter(store.spot_checks(run=run.id, reviewer="ada"))
    pairs = store.stage_members(run.id, "feedback")
    numbers = iter(range(1_000_000))

    def answer() -> None:
        number = next(numbers)
        lease = store.claim(REVIEW, pairs[number : number + 1], "zoe", 60)
        key = f"answer {time.time_ns()}"
        store.add_spot_check("zoe", pairs[number], "tie", sampled_by="random", key=key, lease=lease)

    def plain() -> None:
        key = f"answer {time.time_ns()}"
        store.add_spot_check("zoe", pairs[next(numbers)], "tie", sampled_by="random", key=key)

    def undo() -> None:
        store.undo_spot_check("ada", next(checks).event, f"undo {time.time_ns()}")

    def members() -> object:
        return store.stage_members(run.id, "feedback", after=pairs[99], most=50)

    held = store.claim(REVIEW, pairs[-20:], "ben", 600, again=True)
    yield "run(12 digits)", TIMES, lambda: store.run(run.id.hex()[:12])
    yield "runs()", TIMES, lambda: store.runs()
    yield "runs(most=20, before)", TIMES, lambda: store.runs(most=20, before=page[-1].id)
    yield "runs(kinds, statuses, most=20)", TIMES, lambda: store.runs(kinds=["improve"], statuses=["finished"], most=20)
    yield "newest_judged(2 kinds)", TIMES, lambda: store.newest_judged(["examples", "preview"])
    yield "stages(run)", TIMES, lambda: store.stages(run.id)
    yield "reused(run)", TIMES, lambda: store.reused(run.id)
    yield "stage_sizes(run)", TIMES, lambda: store.stage_sizes(run.id)
    yield "stage_members(feedback)", TIMES, lambda: store.stage_members(run.id, "feedback")
    yield (
        "stage_members(after, most=50)",
        TIMES,
        members,
    )
    yield "is_ratified", TIMES, lambda: store.is_ratified(run.constitution or "")
    yield "ratified", TIMES, store.ratified
    yield "amendment(30)", TIMES, lambda: store.amendment("30")
    yield "amendments", TIMES, store.amendments
    yield "constitution(version)", TIMES, lambda: store.constitution(run.constitution or "")
    yield "promotions", TIMES, store.promotions
    yield "promoted", TIMES, store.promoted
    yield "checkpoint(12 digits)", TIMES, lambda: store.checkpoint(checkpoint.id.hex()[:12])
    yield "checkpoint(path)", TIMES, lambda: store.checkpoint(checkpoint.path)
    yield "spot_checks()", TIMES, store.spot_checks
    yield "spot_checks(run)", TIMES, lambda: store.spot_checks(run=run.id)
    yield "spot_checks(run, stages)", TIMES, lambda: store.spot_checks(run=run.id, stages=["feedback"])
    yield "spot_checks(20 comparisons)", TIMES, lambda: store.spot_checks(comparisons=pairs[:20])
    yield "spot_checks(reviewer)", TIMES, lambda: store.spot_checks(reviewer="ada")
    yield "answered(reviewer, run)", TIMES, lambda: store.answered("ada", run=run.id)
    yield "answered(reviewer, 20 comparisons)", TIMES, lambda: store.answered("ada", pairs[:20])
    yield "undo_spot_check", TIMES, undo
    yield "add_spot_check", TIMES, plain
    yield "claim and add_spot_check(lease)", TIMES, answer
    yield "holders(20)", TIMES, lambda: store.holders(REVIEW, pairs[-20:])
    yield "renew(20)", TIMES, lambda: store.renew(held, 600)
    yield "claim(20, again)", TIMES, lambda: store.claim(REVIEW, pairs[-20:], "ben", 600, again=True)
    yield "appearances(comparison)", TIMES, lambda: store.appearances(pairs[0])
    yield "archivable", TIMES, lambda: store.archivable(now())
    yield "judged_comparisons", 1, lambda: store.judged_comparisons(("examples",))
    yield "collect(a year, dry_run)", 1, lambda: store.collect(YEAR, dry_run=True)
    yield "collect(a day, dry_run)", 1, lambda: store.collect(86_400.0, dry_run=True)


class _watched:
    """Keeps each statement with its seconds while it is open."""

    def __init__(self, store: Store, sent: list[tuple[float, str, Any]]) -> None:
        self.engine, self.sent, self.began = store._engine, sent, 0.0

    def __enter__(self) -> None:
        event.listen(self.engine, "before_cursor_execute", self.before)
        event.listen(self.engine, "after_cursor_execute", self.after)

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self.before)
        event.remove(self.engine, "after_cursor_execute", self.after)

    def before(self, *_: object) -> None:
        self.began = time.perf_counter()

    def after(self, _: object, cursor: object, statement: str, parameters: Any, *__: object) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "DELETE")) and "pg_advisory" not in statement:
            self.sent.append((time.perf_counter() - self.began, statement, parameters))


def _scans(store: Store, statement: str, parameters: Any) -> list[str]:
    explain, column = ("EXPLAIN QUERY PLAN ", 3) if "sqlite" in store.url else ("EXPLAIN ", 0)
    with store._read() as connection:
        lines = [row[column].strip() for row in connection.exec_driver_sql(explain + statement, parameters)]
    return [line for line in lines if re.match(r"SCAN (?!stages|found|\(|\d)", line) or "Seq Scan" in line]
