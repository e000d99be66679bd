"""A store of an older version is brought to this one, with its rows; interrupted, it is as it was and can be again."""

from __future__ import annotations

import json

import pytest
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from constitution.errors import UserError
from storage import migrations
from storage.store import Store

PAIR, RUN, OTHER_RUN, JOB = (letter.encode() * 16 for letter in "prsj")
MADE = "checkpoints/dpo-00112233aabbccdd"
THERE = f"/data/team's/runs/{MADE}"
REPORT = "/data/team's/runs/0123456789ab/report.html"
VERSION, DIGEST, EARLIER = "v" * 32, "d" * 64, "e" * 64


def engine_of(url):
    return create_engine(str(url).replace("postgresql://", "postgresql+psycopg://"))


def said(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


EVENTS = (
    ("e1", "spot_check", "ana", {"answer": "first", "comparison": PAIR.hex(), "reason": "", "sampled_by": "x"}, PAIR),
    ("e2", "spot_check", "ben", {"answer": "tie", "comparison": PAIR.hex(), "reason": "\x00", "sampled_by": "x"}, PAIR),
    ("e3", "spot_check_undone", "ana", {"event": "e1"}, None),
    ("e4", "ratification", "ana", {"version": VERSION, "parent": None, "message": "first"}, None),
    ("e5", "promotion", "ana", {"id": JOB.hex(), "digest": EARLIER, "why": "", "evidence": {"model": THERE}}, None),
    ("e6", "promotion", "ana", {"id": JOB.hex(), "digest": DIGEST, "why": "", "evidence": {}}, None),
    ("e7", "roll_back", "ben", {"from": DIGEST, "to": EARLIER, "why": ""}, None),
)
RESULT = {"model": THERE, "report": REPORT, "win": 0.1 + 0.2, "said": "\ud800 \x00"}


@pytest.fixture
def v0001(store_url):
    """A store as version 0001 left it."""
    engine = engine_of(store_url)
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")

        def put(table, **row):
            names = ", ".join(f'"{name}"' for name in row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({values})'), row)

        for seq, (id, kind, who, payload, about) in enumerate(EVENTS, 1):
            row = {"seq": seq, "id": id, "kind": kind, "at": "2026-01-01", "who": said(who), "key": said(f"key {id}")}
            put("event", **row, payload=said(payload), about=about)
        put("constitution", version=VERSION, text=said("the text"), created="2026")
        put("pointer", name="promoted", target=EARLIER, event="e7")
        for id, policy, result in (
            (RUN, THERE, RESULT),
            (OTHER_RUN, "Qwen/Qwen3-8B", ["no object"]),
            (b"n" * 16, "/models/checkpoints/mine", None),
        ):
            row = {"key": said(id.hex()), "kind": "improve", "status": "finished", "created": id.hex()}
            settings = said({"settings": {"policy": {"model": THERE}}, "policy": policy})
            put("run", id=id, **row, settings=settings, result=None if result is None else said(result))
        for digest, path in ((EARLIER, THERE), (DIGEST, "/elsewhere/dpo-00112233aabbccdd")):
            row = {"kind": "policy", "method": "dpo", "parent": "", "dataset": "", "metrics": "{}", "created": digest}
            put("checkpoint", id=JOB, digest=digest, path=said(path), **row, run=RUN)
        for kind in ("decision", "evaluation"):
            put("document", kind=kind, id=RUN.hex(), payload=said({"model": THERE, "promoted": True}), created="2026")
        put("member", run=RUN, stage="feedback", ordinal=0, id=PAIR, reused=0)
    engine.dispose()
    return store_url


def check(url, tmp_path):
    with Store.open(url, home=tmp_path) as store:
        made = str(tmp_path / MADE)
        run, other, plain = (store.run(id) for id in (RUN, OTHER_RUN, b"n" * 16))
        assert run.result == RESULT | {"model": made, "report": str(tmp_path / "0123456789ab/report.html")}
        assert run.settings["policy"] == made
        assert run.settings["settings"]["policy"]["model"] == THERE  # part of what the run's key says
        assert (other.settings["policy"], other.result) == ("Qwen/Qwen3-8B", ["no object"])
        assert (plain.settings["policy"], plain.result) == ("/models/checkpoints/mine", None)
        assert [c.path for c in store.checkpoints()] == ["/elsewhere/dpo-00112233aabbccdd", made]
        assert store.promoted().path == made == store.checkpoint(THERE).path
        assert store.document("decision", RUN.hex()) == {"model": made, "promoted": True}
        assert store.document("evaluation", RUN.hex()) == {"model": THERE, "promoted": True}
        assert [event.payload for event in store.events()] == [payload for *_, payload, _ in EVENTS]
        assert [check.event for check in store.spot_checks(run=RUN)] == ["e2"]
        assert store.answered("ana", [PAIR]) == set()
        assert store.is_ratified(VERSION) and not store.is_ratified(DIGEST)
        assert store.ratified().text == "the text"
        assert store.archivable("3000") == []
        with store._read() as connection:
            query = text("SELECT id, target, about FROM event WHERE target IS NOT NULL ORDER BY seq")
            found = [(row.id, row.target, row.about and bytes(row.about)) for row in connection.execute(query)]
        assert found == [
            ("e3", "e1", PAIR), ("e4", VERSION, None), ("e5", EARLIER, None), ("e6", DIGEST, None),
            ("e7", EARLIER, None),
        ]  # fmt: skip


def test_a_store_of_version_0001_comes_along_with_its_rows(v0001, tmp_path):
    check(v0001, tmp_path)
    check(v0001, tmp_path)  # opened again, nothing more happens


def test_a_row_that_is_no_json_is_told_of_and_the_store_is_left_as_it_was(v0001, tmp_path):
    engine = engine_of(v0001)
    with engine.begin() as connection:
        connection.execute(text("UPDATE run SET settings = 'no json'"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"could not be brought to version .*left as it was.*Restore it from"):
            Store.open(v0001, home=tmp_path)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM run WHERE settings = 'no json'")).scalar() == 3
    engine.dispose()


INTERRUPTED = """
import os, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from storage.store import Store
url, words, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = 0
@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *_):
    global seen
    seen += words in statement
    if seen == times:
        os.kill(os.getpid(), 9)
Store.open(url)
"""


@pytest.mark.parametrize(
    ("words", "times"),
    [("ADD COLUMN", 1), ("UPDATE event", 2), ("UPDATE run", 1), ("DROP INDEX", 1), ("CREATE INDEX", 7)],
)
def test_an_interrupted_migration_is_run_again(v0001, tmp_path, spawn, words, times):
    assert spawn(INTERRUPTED, v0001, words, times).wait(timeout=300) == -9
    engine = engine_of(v0001)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE})
        assert context.get_current_revision() == "0001"
        assert "target" not in {column["name"] for column in inspect(connection).get_columns("event")}
        [stored] = connection.execute(text("SELECT settings FROM run WHERE id = :id"), {"id": RUN}).scalars()
        assert json.loads(stored)["policy"] == THERE
    engine.dispose()
    check(v0001, tmp_path)


# --- 0003: the keys of runs ---

OLD_ROLE = {
    "kind": "openai", "model": "big", "revision": "r1", "dtype": "float32", "base_url": "http://old:1/v1",
    "options": {"timeout": 9.0, "dialect": "chat"}, "answer_prefix": "", "template_args": {}, "temperature": 1.0,
    "top_p": 1.0, "max_tokens": 96,
}  # fmt: skip


def old_key(**more):
    settings = {"seed": 3, "rounds": 1, "policy": OLD_ROLE, "critic": None, "revise": {"rounds": 4, "critique": True}}
    key = {"kind": "improve", "settings": settings | more, "constitution": "v", "prompts": "p", "slot": ""}
    return said(key | {"models": {"policy": "/where/it/lay"}})


def test_a_key_of_before_becomes_the_key_of_the_same_run_now(v0001, tmp_path):
    """And a run that would have been another by its port alone is the newest one; keys that name no settings stay."""
    rows = {
        b"1" * 16: old_key(policy=OLD_ROLE | {"base_url": "http://older:1/v1"}),
        b"2" * 16: old_key(),
        b"3" * 16: old_key(seed=0),
        b"4" * 16: said({"kind": "examples", "cases": []}),
    }
    engine = engine_of(v0001)
    with engine.begin() as connection:
        for place, (id, key) in enumerate(rows.items()):
            statement = text(
                "INSERT INTO run (id, key, kind, settings, status, created) VALUES (:id, :key, 'improve', :settings, "
                "'finished', :created)"
            )
            settings = said({"settings": {}, "policy": "/there/sandbox/models/policy"})
            row = {"id": id, "key": said(key), "settings": settings, "created": f"2026-0{place + 1}"}
            connection.execute(statement, row)
    engine.dispose()
    settings = {
        "seed": 3,
        "policy": {"kind": "openai", "model": "big", "options": {"dialect": "chat"}, "revision": "r1"},
    }
    now = {"recipe": 2, "kind": "improve", "settings": settings, "constitution": "v", "prompts": "p", "slot": ""}
    with Store.open(v0001, home=tmp_path) as store:
        assert store.run_of_key(said(now)).id == b"2" * 16
        assert store.start_run(said(now), "improve", {}).id == b"2" * 16  # gone on with, under its own id
        assert store.run_of_key(said(now | {"settings": {"policy": settings["policy"]}})).id == b"3" * 16
        assert [store.run(id).key for id in (b"1" * 16, b"4" * 16)] == [rows[b"1" * 16], rows[b"4" * 16]]
        assert store.run(b"2" * 16).settings["policy"] == "sandbox:policy"


def test_of_runs_that_become_one_key_a_finished_one_is_gone_on_with(v0001, tmp_path):
    engine = engine_of(v0001)
    rows = (
        (b"5" * 16, OLD_ROLE, "finished", "2026-01"),
        (b"6" * 16, OLD_ROLE | {"base_url": "x"}, "failed", "2026-02"),
    )
    with engine.begin() as connection:
        for id, role, status, created in rows:
            statement = text(
                "INSERT INTO run (id, key, kind, settings, status, created) VALUES (:id, :key, 'improve', :settings, "
                ":status, :created)"
            )
            row = {"id": id, "key": said(old_key(policy=role)), "settings": said({}), "status": status}
            connection.execute(statement, row | {"created": created})
    engine.dispose()
    with Store.open(v0001, home=tmp_path) as store:
        assert json.loads(store.run(b"5" * 16).key)["recipe"] == 2
        assert "recipe" not in json.loads(store.run(b"6" * 16).key)


def test_the_lists_of_the_migration_are_those_of_the_service():
    """As they were when it was written: a setting that comes later is none of its business."""
    from service import identity
    from storage.migrations.versions import v0003_run_keys as migration

    assert (migration.ROLES, migration.NOT_OF_A_ROLE, migration.PATIENCE) == (
        identity.ROLES, identity.NOT_OF_A_ROLE, identity.PATIENCE,
    )  # fmt: skip
    for name, default in migration.RECORDED.items():
        assert identity.RECORDED[name] == default or default.items() <= identity.RECORDED[name].items()
