"""What people did: appended once, undone by appending, on disk before it is acknowledged."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from sqlalchemy import event as sqlalchemy_event

from constitution.errors import UserError
from storage.events import uuid7

PAIR, OTHER = b"p" * 16, b"o" * 16


def test_uuid7_is_a_version_7_and_sorts_by_time():
    before = time.time_ns() // 1_000_000
    one = uuid7()
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)
    assert before <= uuid.UUID(one).int >> 80 <= time.time_ns() // 1_000_000
    time.sleep(0.002)
    assert one < uuid7()


def test_the_same_key_is_one_event(store):
    first = store.add_event("note", "ana", "key", {"text": "hello"})
    assert store.add_event("note", "ana", "key", {"text": "hello"}) == first
    assert store.events("note") == [first]
    with pytest.raises(UserError, match="used before"):
        store.add_event("note", "ana", "key", {"text": "something else"})
    second = store.add_event("other", "ana", "key 2", {})
    assert store.events() == [first, second]
    assert store.events("other", "nothing") == [second]


def test_a_spot_check_stands_until_it_is_undone_or_answered_again(store):
    first = store.add_spot_check("ana", PAIR, "first", reason="clearer", sampled_by="random", key="1")
    assert (first.answer, first.reason, first.sampled_by, first.comparison) == ("first", "clearer", "random", PAIR)
    other = store.add_spot_check("ben", PAIR, "tie", sampled_by="flips", key="2")
    assert store.spot_checks() == [first, other]
    changed = store.add_spot_check("ana", PAIR, "second", sampled_by="random", key="3")
    assert sorted(check.answer for check in store.spot_checks()) == ["second", "tie"]
    undone = store.undo_spot_check("ana", changed.event, "4")
    assert store.undo_spot_check("ana", changed.event, "4") == undone  # the button was pressed twice
    assert {check.event for check in store.spot_checks()} == {first.event, other.event}
    assert len(store.events("spot_check", "spot_check_undone")) == 4  # nothing was forgotten


def test_only_ones_own_standing_answer_can_be_undone(store):
    check = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1")
    with pytest.raises(UserError, match="ben has no standing answer"):
        store.undo_spot_check("ben", check.event, "2")
    store.undo_spot_check("ana", check.event, "3")
    with pytest.raises(UserError, match="ana has no standing answer"):
        store.undo_spot_check("ana", check.event, "4")
    assert len(store.events()) == 2  # a refused undo leaves nothing
    with pytest.raises(ValueError, match="'A' is not one of"):
        store.add_spot_check("ana", OTHER, "A", sampled_by="random", key="5")


def test_sqlite_syncs_every_commit_for_people_and_not_for_machines(tmp_path, world):
    from storage.store import Store

    said = []
    with Store.open(tmp_path / "sync.db") as store:
        sqlalchemy_event.listen(
            store._engine,
            "commit",
            lambda connection: said.append(connection.exec_driver_sql("PRAGMA synchronous").scalar()),
        )
        store.add_prompts([world.prompt(1)])
        store.add_event("note", "ana", "key", {})
        store.add_prompts([world.prompt(2)])
    normal, full = 1, 2
    assert said == [normal, full, normal]


ANSWERS = """
import sys
from storage.store import Store
with Store.open(sys.argv[1]) as store:
    for number in range(100_000):
        store.add_spot_check("ana", number.to_bytes(16, "big"), "first", sampled_by="random", key=str(number))
        print(number, flush=True)
"""


def test_an_acknowledged_answer_survives_a_killed_process(store_url, store, spawn):
    reviewer = spawn(ANSWERS, store_url)
    acknowledged = [int(reviewer.stdout.readline()) for _ in range(20)]
    reviewer.kill()
    reviewer.wait()
    stored = [int.from_bytes(check.comparison, "big") for check in store.spot_checks()]
    assert stored == list(range(len(stored)))
    assert stored[: len(acknowledged)] == acknowledged
