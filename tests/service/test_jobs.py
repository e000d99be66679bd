"""The queue and its worker, on a scripted model: taken one by one, limited, cancelled, gone on with after kill -9."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from service import jobs
from service import settings as settings_module
from service.jobs import worker
from service.jobs.watching import Watching
from storage.jobs import StoredJob
from storage.store import Store

PRINCIPLES = """\
constitution: one
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?}
"""
SETTINGS = 'store = "sqlite:///precept.db"\n' + "".join(
    f'[{role}]\nkind = "scripted"\nmodel = "m.yaml"\n' for role in ("policy", "judge", "evaluator")
)
RULES = """rules:
  - {contains: slow, sleep: 30, text: at last}
  - {text: said}
  - {choose: {A: 0.5, B: 0.5}}
"""
SLOW = {"prompt": "a slow one", "answer": "mine", "n": 1}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precept.toml").write_text(SETTINGS)
    (tmp_path / "principles.yaml").write_text(PRINCIPLES)
    (tmp_path / "m.yaml").write_text(RULES)
    with Store.open("precept.db") as opened:
        yield opened


def until(of: Callable[[], StoredJob | None], right: Callable[[StoredJob], bool]) -> StoredJob:
    end = time.monotonic() + 40
    while time.monotonic() < end:
        found = of()
        if found is not None and right(found):
            return found
        time.sleep(0.1)
    pytest.fail(f"it did not come to that: {of()}")


def test_a_person_has_so_many_and_the_same_key_is_the_same_job(store: Store) -> None:
    first = jobs.enqueue(store, "score", SLOW, "ada", "0")
    assert jobs.enqueue(store, "score", SLOW, "ada", "0").id == first.id
    for n in range(1, jobs.MOST):
        jobs.enqueue(store, "score", SLOW, "ada", str(n))
    with pytest.raises(UserError, match="5 jobs of yours"):
        jobs.enqueue(store, "score", SLOW, "ada", "more")
    assert jobs.enqueue(store, "score", SLOW, "ben", "0").id != first.id
    store.cancel_job(first.id)
    jobs.enqueue(store, "score", SLOW, "ada", "more")
    for kind, payload in (("nonsense", {}), ("score", {"prompt": ""}), ("try_draft", {"text": "no: yaml: here"})):
        with pytest.raises(UserError):
            jobs.enqueue(store, kind, payload, "eve", "x")


def test_who_lost_a_job_writes_nothing_into_it(store: Store) -> None:
    asked = jobs.enqueue(store, "score", SLOW, "ada", "0")
    assert store.take_job("one") is not None and store.take_job("two") is None
    store.give_back_job(asked.id, "one", 2, "gone")
    assert store.take_job("two") is not None
    assert not store.end_job(asked.id, "one", "finished", {"late": True})
    store.give_back_job(asked.id, "two", 2, "gone")
    found = store.job(asked.id)
    assert found is not None and (found.state, found.error, found.tries) == ("failed", "gone", 2)


def test_a_draft_is_tried_and_a_failure_ends_no_worker(store: Store) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "Say it", "split": "train"}\n')
    Path("precept.toml").write_text('prompts = "prompts.jsonl"\n' + SETTINGS)
    draft = PRINCIPLES.replace("Be kind.", "Be kinder.")
    wrong = jobs.enqueue(store, "score", {"prompt": "x", "answer": "y", "second": "z"}, "ada", "0")
    Path("m.yaml").write_text("rules: [{text: said}]\n")  # no judge can be had
    tried = jobs.enqueue(store, "try_draft", {"text": draft, "count": 1}, "ada", "1")
    settings, _ = settings_module.load(Path("precept.toml"), {})
    assert worker.work(settings, idle=0.2) == 2
    ended = store.job(wrong.id), store.job(tried.id)
    assert ended[0] is not None and ended[0].state == "failed" and ended[0].error
    assert ended[1] is not None and ended[1].state == "finished", ended[1]
    assert [one["draft"]["text"] for one in ended[1].result["answers"]] == ["said"]


def test_killed_twice_it_has_failed_and_cancelled_it_ends(store: Store) -> None:
    command = [sys.executable, "-m", "cli.main", "console", "work"]
    asked = jobs.enqueue(store, "score", SLOW, "ada", "0")

    def of() -> StoredJob | None:
        return store.job(asked.id)

    with Watching(store, command) as watching:
        for tries in (1, 2):
            until(of, lambda job, tries=tries: job.state == "running" and job.tries == tries)
            assert watching.child is not None
            os.kill(watching.child.pid, signal.SIGKILL)
        assert "was killed" in (until(of, lambda job: job.state == "failed").error or "")
        asked = jobs.enqueue(store, "score", SLOW, "ada", "1")
        until(of, lambda job: job.state == "running")
        child = watching.child
        store.cancel_job(asked.id)
        until(of, lambda job: child is not None and child.poll() is not None)
        assert store.job(asked.id).state == "cancelled"  # type: ignore[union-attr]
    assert watching.child is None or watching.child.poll() is not None
