"""What people did: appended once, undone by appending, on disk before it is acknowledged."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from sqlalchemy import event as sqlalchemy_event

from constitution.errors import UserError
from storage.events import uuid7

PAIR = b"p" * 16


def test_uuid7_is_a_version_7_and_sorts_by_time():
    before = time.time_ns() // 1_000_000
    one = uuid7()
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)
    assert before <= uuid.UUID(one).int >> 80 <= time.time_ns() // 1_000_000
    assert one < uuid7()


def test_ids_sort_by_time_within_a_millisecond_too_and_when_the_clock_goes_back(monkeypatch):
    made = [uuid7() for _ in range(2000)]  # some microseconds each
    assert made == sorted(made) and len(set(made)) == 2000
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)  # 1970
    assert made[-1] < uuid7() < uuid7()


def test_the_same_key_is_one_event(store):
    store.put_constitution("v1", "text")
    first = store.ratify("v1", "ana", "why", "key")
    assert store.ratify("v1", "ana", "why", "key") == first
    assert store.events("ratification") == [first]
    with pytest.raises(UserError, match="used before"):
        store.ratify("v1", "ana", "another reason", "key")
    with pytest.raises(UserError, match="used before"):
        store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="key")
    check = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="key 2")
    assert [event.id for event in store.events()] == [first.id, check.event]
    assert [event.id for event in store.events("spot_check", "nothing")] == [check.event]


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
        store.add_spot_check("ana", PAIR, "tie", sampled_by="random", key="key")
        store.add_prompts([world.prompt(2)])
    normal, full = 1, 2
    assert said == [normal, full, normal]
