"""kill -9 at random moments: the rerun ends with the clean run's slots, none twice, byte-equal."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kills import DRIVE, Outcome, prepare, run, trial


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that nobody killed."""
    folder = tmp_path_factory.mktemp("clean")
    prepare(folder)
    return run(folder, [])


def test_a_killed_run_goes_on_and_ends_like_a_clean_one(tmp_path: Path, clean: Outcome) -> None:
    assert len(clean.contents["generation"]) > 150 and len(clean.contents["verdict"]) > 200
    assert clean.twice == 0 and clean.orphans == 0
    rng = random.Random(7)
    assert trial(tmp_path / "killed", [rng.uniform(0.0, 1.0) for _ in range(3)], clean) == []


def test_a_finished_run_asks_nothing_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    first = run(tmp_path, [])
    again = run(tmp_path, [])
    assert again.asked == first.asked


DIES = """
import os, signal, sys
from storage.{module} import {noun}
really, calls = {noun}.{method}, []
def dies(self, *arguments, **named):
    calls.append(1)
    if len(calls) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)  # the models have answered, and nothing of it is on disk
    return really(self, *arguments, **named)
{noun}.{method} = dies
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "noun", "method", "after"),
    [("texts", "Texts", "add_generations", 3), ("verdicts", "Verdicts", "add_verdicts", 2)],
)
def test_killed_between_an_answer_and_its_commit(
    tmp_path: Path, clean: Outcome, module: str, noun: str, method: str, after: int
) -> None:
    prepare(tmp_path)
    code = DIES.format(module=module, noun=noun, method=method, after=after) + DRIVE
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "precept.toml")], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    found = run(tmp_path, [])
    assert found.contents == clean.contents and found.orphans == 0
    assert 0 < found.twice <= (8 if method == "add_generations" else 2 * 64)  # the batch that was in flight


@pytest.mark.slow
def test_a_worker_that_sleeps_past_its_lease_and_wakes_writes_nothing_late(tmp_path: Path, clean: Outcome) -> None:
    file = prepare(tmp_path)
    log = tmp_path / "asked.log"
    shorter = "from service.work import holding\nholding.LEASE = 1.0\n"  # of minutes
    command = [sys.executable, "-c", shorter + DRIVE, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asleep:
        while not log.exists() or len(log.read_text().splitlines()) < 3:  # it holds a batch, and asks
            assert asleep.poll() is None
            time.sleep(0.002)
        asleep.send_signal(signal.SIGSTOP)
        found = run(tmp_path, [])  # another process, which waits for the lease's end
        assert found.contents == clean.contents
        asleep.send_signal(signal.SIGCONT)
        assert asleep.wait(timeout=120) == 0
    again = run(tmp_path, [])
    assert again.contents == clean.contents and again.orphans == 0
    assert again.twice <= 8 + 8  # what the sleeper had asked and could not write, and the batch it woke in
