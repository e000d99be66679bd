"""What pages and reviewers ask for is found by an index: the database's own plan of every query names no scan.

On Postgres scans are switched off, since it scans small tables whatever it could do: a scan that is left has no index
to go by.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event

from constitution.records import Checkpoint, make_id
from storage.claims import REVIEW
from storage.store import Store

PAIRS = [make_id("pair", n=n) for n in range(20)]
JOB = make_id("job")
DIGEST = "ab" * 32


@pytest.fixture
def filled(store):
    run = store.start_run("key", "improve", {}).id
    store.add_members(run, "feedback", PAIRS)
    store.add_members(run, "feedback.questions", PAIRS[:1])
    for number, pair in enumerate(PAIRS):
        store.add_spot_check(f"{number % 3}", pair, "tie", sampled_by="random", key=str(number))
    store.ratify("v1", "ana", "why", "ratified", text="text")
    checkpoint = Checkpoint(JOB, "policy", "dpo", f"checkpoints/dpo-{JOB.hex()[:16]}", DIGEST, "base", "data")
    store.add_checkpoint(checkpoint, run=run)
    store.promote(checkpoint, "ana", "better", "promoted")
    return store


def plans(store: Store, work: Callable[[Store], object]) -> list[str]:
    """Every SELECT that the work sends, with the database's plan of it."""
    sent = []

    def note(connection, cursor, statement, parameters, *_):
        if statement.lstrip().startswith(("SELECT", "WITH")) and "pg_advisory" not in statement:
            sent.append((statement, parameters))

    event.listen(store._engine, "before_cursor_execute", note)
    try:
        work(store)
    finally:
        event.remove(store._engine, "before_cursor_execute", note)
    explain, column = ("EXPLAIN QUERY PLAN ", 3) if store._is_sqlite else ("EXPLAIN ", 0)
    found = []
    with store._read() as connection:
        if not store._is_sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in sent:
            lines = [row[column] for row in connection.exec_driver_sql(explain + statement, parameters)]
            found.append("\n".join([statement, *lines]))
    return found


ASKED: dict[str, Callable[[Store], object]] = {
    "a run by its digits": lambda s: s.run(s.runs(most=1)[0].id.hex()[:8]),
    "a page of runs": lambda s: s.runs(most=1, before=s.runs(most=1)[0].id),
    "the newest judged run": lambda s: s.newest_judged(["preview"]),
    "stages": lambda s: s.stages(s.runs(most=1)[0].id),
    "a page of members": lambda s: s.stage_members(s.runs(most=1)[0].id, "feedback", after=PAIRS[3], most=5),
    "is it ratified": lambda s: s.is_ratified("v1"),
    "what is ratified": lambda s: s.ratified(),
    "an amendment": lambda s: s.amendment("1"),
    "answers of a run": lambda s: s.spot_checks(run=s.runs(most=1)[0].id, stages=["feedback"]),
    "answers about pairs": lambda s: s.spot_checks(comparisons=PAIRS[:3]),
    "answers of a reviewer": lambda s: s.spot_checks(reviewer="1"),
    "what a reviewer answered": lambda s: s.answered("1", run=s.runs(most=1)[0].id),
    "undo": lambda s: s.undo_spot_check("0", s.spot_checks(comparisons=PAIRS[:1])[0].event, "undo"),
    "who holds": lambda s: s.holders(REVIEW, PAIRS),
    "claim": lambda s: s.claim(REVIEW, PAIRS[:2], "ana", 60, again=True),
    "all that is held": lambda s: s.holding(REVIEW),
    "what a reviewer did of late": lambda s: s.reviewed("1", since=3),
    "renew": lambda s: s.renew(s.claim(REVIEW, PAIRS[:2], "ana", 60), 60),
    "answer": lambda s: s.add_spot_check(
        "1", PAIRS[0], "tie", sampled_by="random", key="new", lease=s.claim(REVIEW, PAIRS[:1], "1", 60)
    ),
    "a checkpoint by its digits": lambda s: s.checkpoint(DIGEST[:8]),
    "a checkpoint by its path": lambda s: s.checkpoint(f"checkpoints/dpo-{JOB.hex()[:16]}"),
    "a checkpoint by its folder's name": lambda s: s.checkpoint(f"dpo-{JOB.hex()[:16]}"),
    "promoted": lambda s: s.promoted(),
    "what may be archived": lambda s: s.archivable("3000"),
    "where a record appears": lambda s: s.appearances(PAIRS[0]),
}


@pytest.mark.parametrize("asked", ASKED)
def test_nothing_is_scanned(filled, asked):
    found = plans(filled, ASKED[asked])
    assert found
    for plan in found:
        lines = [line.strip() for line in plan.splitlines()]
        scans = [line for line in lines if line.startswith("SCAN") and "INDEX" not in line and "stages" not in line]
        scans += [line for line in lines if "Seq Scan" in line]
        assert not scans, plan


def test_a_scan_would_be_seen(filled):
    [plan] = plans(filled, lambda store: store.trained_in())
    assert "SCAN" in plan or "Seq Scan" in plan
