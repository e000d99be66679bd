"""A run whose process is gone is not running, whatever the store says: told by its process on this machine, and by the
time of its lease on another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from constitution.records import Id
from service.queries import runs
from service.queries.processes import is_there, own_name
from storage.store import Store

HERE = socket.gethostname()


@pytest.fixture
def ended() -> Iterator[str]:
    """The name of a worker whose process has ended."""
    code = "from service.queries.processes import own_name; print(own_name())"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    yield done.stdout.strip()


def begun(store: Store) -> Id:
    return store.start_run("a key", "improve", {}).id


def told(store: Store) -> tuple[str, str]:
    (listed,) = runs.runs(store)
    assert runs.show(store, listed.run.id.hex()).summary == listed
    return listed.run.status, listed.outcome


def test_a_run_is_running_while_one_of_its_processes_is_there(store: Store, ended: str) -> None:
    run = begun(store)
    assert told(store) == ("stopped", "its process is gone")  # nobody ever came
    store.come(run, ended, 1800)
    assert told(store) == ("stopped", "its process is gone")
    store.come(run, own_name(), 1800)
    assert told(store) == ("running", "")
    store.finish_run(run, "failed", error="as it was")
    assert told(store) == ("failed", "as it was")


def test_an_id_that_was_given_to_another_process_is_not_that_process() -> None:
    mine = own_name()
    assert is_there(mine) and is_there(f"{HERE}:{os.getpid()}:1") is True
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None and other.stdout.readline()
        assert is_there(f"{HERE}:{other.pid}:1") is True  # a name of an earlier version tells no more
        assert is_there(f"{HERE}:{other.pid}:1.12345") is False
        assert other.stdin is not None
        other.stdin.close()
    assert is_there(f"{HERE}:{other.pid}:1") is False


def test_a_run_of_another_machine_is_told_by_its_lease(store: Store) -> None:
    run = begun(store)
    store.come(run, "elsewhere:1:1.1", 60)
    assert told(store) == ("running", "")
    store.come(run, "elsewhere:1:1.1", -60)
    assert told(store) == ("stopped", "its process on elsewhere gives no sign of life")


def test_a_worker_that_goes_has_gone_from_its_run(store: Store) -> None:
    run = begun(store)
    store.come(run, "a", 60)
    store.come(run, "b", 60)
    store.come(run, "a", 120)  # again: one place for each
    assert set(store.at_work()[run]) == {"a", "b"}
    store.release_worker("a")
    assert set(store.at_work()[run]) == {"b"}
