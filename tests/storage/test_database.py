"""Opening a store, and what happens when the database is locked, full, too new, half migrated or away."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, inspect, text

from constitution.errors import UserError
from storage import migrations, tables
from storage.store import Store


def engine_of(url):
    return create_engine(str(url).replace("postgresql://", "postgresql+psycopg://"))


# --- where a store is ----------------------------------------------------------------------------------------------


def test_a_store_is_a_file_name_or_a_url(tmp_path, world):
    path = tmp_path / "deep" / "50% & more" / "runs.db"
    with Store.open(path) as store:
        store.add_prompts([world.prompt(1)])
    for same in (str(path), f"sqlite:///{path}"):
        with Store.open(same, create=False) as store:
            assert store.prompts() == [world.prompt(1)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://ana:secret@host/db", "cannot be kept in mysql"),
        ("sqlite://", "write a file name"),
        ("post gres://", "cannot be read"),
        ("postgresql://ana:secret@127.0.0.1:1/db", "cannot reach the database .*check that it runs"),
        ("/dev/null/runs.db", "cannot make the folder"),
        ("/proc/runs.db", "cannot use"),
    ],
)
def test_a_store_that_cannot_be_opened_says_why(url, message):
    begun = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - begun < 20  # it did not wait out its patience


def test_a_store_that_is_not_there_is_only_made_when_asked(tmp_path):
    with pytest.raises(UserError, match="there is no store at"):
        Store.open(tmp_path / "runs.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "runs.db"
    path.write_text("principles:\n" * 500)
    with pytest.raises(UserError, match=r"cannot use .* as a store: file is not a database"):
        Store.open(path)
    assert path.read_text() == "principles:\n" * 500


def test_a_missing_postgres_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match="pip install 'psycopg"):
        Store.open("postgresql://ana@host/db")


# --- the schema (promises, row 10) ---------------------------------------------------------------------------------


def test_the_migrations_make_the_tables(store_url, store):
    with engine_of(store_url).connect() as connection:
        options = {"version_table": migrations.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_head_is_the_last_migration():
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_verdicts_are_clustered_by_their_key(tmp_path):
    Store.open(tmp_path / "runs.db").close()
    with sqlite3.connect(tmp_path / "runs.db") as raw:
        [[ddl]] = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'verdict'")
        assert "WITHOUT ROWID" in ddl
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_newer_schema_is_refused_naming_both_versions(store_url):
    Store.open(store_url).close()
    with engine_of(store_url).begin() as connection:
        connection.execute(text("UPDATE precept_version SET version_num = '0042'"))
    with pytest.raises(UserError, match=f"schema version 0042.* up to {migrations.HEAD}"):
        Store.open(store_url)
    with engine_of(store_url).begin() as connection:
        assert connection.execute(text("SELECT version_num FROM precept_version")).scalar() == "0042"


INTERRUPTED = """
import os, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from storage.store import Store
creates = 0
@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *_):
    global creates
    creates += "CREATE TABLE" in statement
    if creates == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
Store.open(sys.argv[1])
"""


@pytest.mark.parametrize("after", [1, 9, 20])
def test_an_interrupted_start_is_run_again(store_url, spawn, world, after):
    process = spawn(INTERRUPTED, store_url, after)
    assert process.wait(timeout=300) == -9
    with engine_of(store_url).connect() as connection:
        assert inspect(connection).get_table_names() == []  # it never was
    with Store.open(store_url) as store:
        assert store.add_prompts([world.prompt(1)]) == 1


OPENER = """
import sys
from storage.store import Store
print("ready", flush=True)
sys.stdin.readline()
Store.open(sys.argv[1]).close()
"""


def test_processes_that_open_a_new_store_at_once_do_not_collide(store_url, spawn):
    openers = [spawn(OPENER, store_url) for _ in range(4)]
    for opener in openers:
        opener.stdout.readline()
    for opener in openers:
        opener.stdin.write("go\n")
        opener.stdin.flush()
    assert [opener.wait(timeout=300) for opener in openers] == [0] * 4
    Store.open(store_url, create=False).close()


# --- locked, full (rows 7 and 9) -----------------------------------------------------------------------------------


@pytest.fixture
def lock(tmp_path):
    """Another connection that holds the write lock of `runs.db` until it is told to let go."""
    Store.open(tmp_path / "runs.db").close()
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_locked_store_is_waited_for(tmp_path, lock, world):
    threading.Timer(0.5, lambda: lock.execute("ROLLBACK")).start()
    begun = time.monotonic()
    with Store.open(tmp_path / "runs.db", patience=20) as store:
        assert store.add_prompts([world.prompt(1)]) == 1
    assert time.monotonic() - begun >= 0.4


def test_a_store_that_stays_locked_is_one_clear_error(tmp_path, lock, world):
    with Store.open(tmp_path / "runs.db", patience=0.3) as store:
        assert store.prompts() == []  # readers do not wait in WAL mode
        with pytest.raises(UserError, match=r"locked by another process for 0\.3 s.*nothing was lost"):
            store.add_prompts([world.prompt(1)])
        lock.execute("ROLLBACK")
        assert store.add_prompts([world.prompt(1)]) == 1


def test_two_processes_that_read_and_then_write_do_not_lock_each_other_out(tmp_path, world):
    """A deferred transaction that read first fails at once when another wrote meanwhile, however long it may wait."""
    failures = []

    def work(name):
        with Store.open(tmp_path / "runs.db", patience=20) as store:
            for number in range(40):
                try:
                    store.claim("stage", [number.to_bytes(16, "big")], name, 60)
                except UserError as error:
                    failures.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_full_disk_keeps_what_was_there_and_nothing_half_written(tmp_path, world):
    with Store.open(tmp_path / "runs.db") as store:
        store.add_prompts([world.prompt(0)])

        @event.listens_for(store._engine, "begin")
        def fill_up(connection):
            connection.exec_driver_sql("PRAGMA max_page_count = 120")  # half a MB; less than these prompts take

        with pytest.raises(UserError, match=r"cannot write the store .*full.*Make room"):
            store.add_prompts([world.prompt(number) for number in range(5_000)])
        event.remove(store._engine, "begin", fill_up)
    with Store.open(tmp_path / "runs.db") as store:
        assert store.prompts() == [world.prompt(0)]
        assert store.add_prompts([world.prompt(number) for number in range(5_000)]) == 4_999


# --- a server that restarts (row 8) --------------------------------------------------------------------------------

LOADED = """
import sys
from constitution.records import Generation, Message, Prompt, make_id
from storage.store import Store
name = sys.argv[2]
prompt = Prompt((Message("user", "prompt 1"),), "train", "test")
with Store.open(sys.argv[1]) as store:
    store.add_prompts([prompt])
    run = store.start_run("one", "respond", {}).id
    for start in range(0, 1_000_000, 20):
        numbers = list(range(start, start + 20))
        batch = [Generation(make_id("t", n=n), "response", prompt.id, f"{name} {n}", "stop", "s") for n in numbers]
        for stored in store.add_generations(batch, run=run, stage="respond", ordinals=numbers):
            print(stored.text)
        store.add_spot_check(name, prompt.id, "tie", sampled_by="random", key=f"{name} {start}")
        print("event", start, flush=True)
"""


def test_a_restarted_server_loses_nothing_and_doubles_nothing(postgres, spawn):
    url = postgres.new_schema()
    writers = [spawn(LOADED, url, name) for name in "ab"]
    said = {writer: [] for writer in writers}

    def listen(writer, batches):
        for line in writer.stdout:
            said[writer].append(line.rstrip("\n"))
            batches -= line.startswith("event")
            if not batches:
                return

    for _ in range(2):
        for writer in writers:
            listen(writer, 8)
        postgres.pg_ctl("restart", "-m", "immediate")
    for writer in writers:
        listen(writer, 8)
        assert writer.poll() is None  # it waited, and went on
        writer.kill()
        writer.wait()
    with Store.open(url) as store:
        stored = [generation.text for generation in store.generations_of(store.runs()[0].id, "respond")]
        events = [mark.key for mark in store.events("spot_check")]
    assert [text.split()[1] for text in stored] == [str(number) for number in range(len(stored))]
    for writer, name in zip(writers, "ab", strict=True):
        texts = [line for line in said[writer] if not line.startswith("event")]
        assert texts == stored[: len(texts)]  # both were told the same, and it is still there
        marks = [f"{name} {line.split()[1]}" for line in said[writer] if line.startswith("event")]
        assert [key for key in events if key.startswith(name)][: len(marks)] == marks
    assert len(events) == len(set(events))


def test_a_server_that_stays_away_is_one_clear_error(postgres, world):
    with Store.open(postgres.new_schema(), patience=1) as store:
        store.add_prompts([world.prompt(1)])
        postgres.pg_ctl("stop", "-m", "immediate")
        try:
            with pytest.raises(UserError, match="cannot reach the database"):
                store.add_prompts([world.prompt(2)])
        finally:
            postgres.start()
        assert store.add_prompts([world.prompt(2)]) == 1
