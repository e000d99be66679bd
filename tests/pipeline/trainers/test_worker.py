"""The training process from outside: killed, interrupted, abandoned, misused. The damage is real: SIGKILL, SIGINT."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.trainers import TrainingStopped, Worker
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job
from pipeline.trainers.worker import TrainingKilled
from tests.pipeline.rewards.endpoint import running_endpoint

MakeJob = Callable[..., Job]
STEPS = 60  # of some 10 ms: long enough that a signal lands in the middle
LONG: dict[str, Any] = {"max_steps": STEPS, "save_steps": 10, "lr_scheduler_type": "cosine", "learning_rate": 2e-4}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(env={"OMP_NUM_THREADS": "1"}) as started:
        yield started


def curve(job: Job) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read(Path(job.out) / NAME)]


def check_same_run(job: Job, uninterrupted: Job) -> None:
    expected = curve(uninterrupted)
    assert [step for step, _ in curve(job)] == list(range(1, STEPS + 1))
    assert [loss for _, loss in curve(job)] == pytest.approx([loss for _, loss in expected], abs=1e-6)
    digests = [checkpoint.verify(Path(one.out)).digest for one in (job, uninterrupted)]
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.timeout(900)  # four processes that import TRL, on a machine that may be busy
def test_a_run_that_is_killed_interrupted_and_abandoned_ends_as_one_that_was_left_alone(
    worker: Worker, make_job: MakeJob
) -> None:
    job = make_job("dpo", "hurt", **LONG)
    clean = make_job("dpo", "clean", **LONG)
    run(clean)

    def killed(_: Job, line: dict[str, Any]) -> None:
        if line["step"] == 15:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(TrainingKilled, match="killed by the system"):
        worker.run(job, killed)
    assert not Path(job.out).exists()

    steps: list[int] = []

    def interrupted(_: Job, line: dict[str, Any]) -> None:
        steps.append(line["step"])
        if len(steps) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.run(job, interrupted)
    assert steps[0] >= 11 and steps[0] % 10 == 1  # from a state written every ten steps
    saved = newest_state(job)
    assert saved >= steps[-1]  # the interruption saved one more

    assert abandon(job, after=5) == saved + 1
    saved = newest_state(job)
    steps.clear()
    worker.run(job, lambda _, line: steps.append(line["step"]))
    assert steps == list(range(saved + 1, STEPS + 1))
    check_same_run(job, clean)
    assert not job.resume.exists() and not job.partial.exists()


def newest_state(job: Job) -> int:
    return max(int(path.name.removeprefix("checkpoint-")) for path in job.resume.glob("checkpoint-*"))


def abandon(job: Job, after: int) -> int:
    """Train in a process whose parent goes away after some steps, as when it is killed. Returns the first step."""
    job.write(job.resume / "job.json")
    command = [sys.executable, "-m", "pipeline.trainers", "--serve"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{job.resume / 'job.json'}\n")
        process.stdin.flush()
        steps = [json.loads(process.stdout.readline())["step"] for _ in range(after)]
        process.stdin.close()
        process.stdout.close()
        assert process.wait(timeout=60) == 130
    return int(steps[0])


def test_a_job_in_a_warm_process_gives_its_progress_and_its_manifest(worker: Worker, make_job: MakeJob) -> None:
    job = make_job("sft", "first")
    lines: list[dict[str, Any]] = []
    manifest = worker.run(job, lambda of, line: lines.append(line))
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["total"] == 6 and line["loss"] > 0 for line in lines)
    assert checkpoint.verify(Path(job.out)).digest == manifest.digest
    pid = worker.pid
    following = make_job("reward", "second", model=job.out)
    assert worker.run(following).parent == manifest.digest
    assert worker.pid == pid
    assert worker.run(job) == checkpoint.read(Path(job.out))


def test_what_goes_wrong_in_the_process_is_raised_here_and_the_process_lives_on(
    worker: Worker, make_job: MakeJob
) -> None:
    worker.start()
    pid = worker.pid
    with pytest.raises(UserError, match="line 2: not JSON"):
        job = make_job("sft", "bad")
        Path(job.dataset).write_text(Path(job.dataset).read_text().replace("\n", "\n{\n", 1))
        worker.run(job)
    with pytest.raises(TrainingStopped, match=r"step 2: .* is (nan|inf)") as stop:
        worker.run(make_job("sft", "nan", learning_rate=1e20))
    assert stop.value.good_steps == 0
    assert worker.pid == pid


def test_the_command_line_trains_a_file_or_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.trainers"]
    done = subprocess.run([*command, str(tmp_path / "none.json")], capture_output=True, text=True)
    assert done.returncode == 2
    assert '"event": "user_error"' in done.stdout and "cannot be read" in done.stdout
    assert "Traceback" not in done.stderr
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_a_reward_that_wants_a_key_trains_in_another_process(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the key where the job's spec says, and writes it nowhere."""
    monkeypatch.setenv("SCORER_KEY", "sk-secret-of-the-scorer")
    with running_endpoint() as endpoint:
        reward = {"kind": "http", "url": endpoint.url, "api_key_env": "SCORER_KEY"}
        job = dataclasses.replace(make_job("best_of_n", n=2, max_completion_length=8, max_steps=1), reward=reward)
        endpoint.script = [(503, "not yet")]
        said: list[str] = []
        with Worker(env={"OMP_NUM_THREADS": "1"}) as worker:
            worker.run(job, say=said.append)
        assert "has not answered (status 503: not yet)" in said[0] and "answers again" in said[1]  # told where it waits
        assert set(endpoint.keys) == {"Bearer sk-secret-of-the-scorer"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not [path for path in written if b"sk-secret" in path.read_bytes()]
