"""PPO, RLOO and GRPO by two processes, launched as the documentation says: the runs that one process makes.

Seeds are an answer's own, so that two processes sample what one samples: the rollouts are the same, and what is learnt
from them must be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline import trainers
from pipeline.models import checkpoint
from pipeline.trainers import runner
from pipeline.trainers.processes import Processes
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
ROOT = Path(__file__).parents[3]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
STEPS = 4
# With 5 prompts an epoch of PPO ends within an update. The epsilon is PPO's: at 1e-8 AdamW makes whole steps of
# gradients that are nothing but rounding, and what is rounded depends on the order of a sum.
ANSWERS = {
    "max_steps": STEPS,
    "max_completion_length": 8,
    "per_device_train_batch_size": 8,
    "save_steps": 2,
    "adam_epsilon": 1e-5,
}
PPO = {"num_ppo_epochs": 2, "kl_target": 1.0, "kl_horizon": 100}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "rloo": ("rloo", {"num_generations": 8, "beta": 0.1}),  # the group lies in both processes
    "grpo": ("grpo", {"num_generations": 4, "beta": 0.1, "lora": LORA}),
    "ppo": ("ppo", {**PPO, "num_mini_batches": 2, "value_trunk": "separate"}),
    # A minibatch of one answer: one of the processes has nothing to add.
    "ppo-lora": ("ppo", {**PPO, "num_mini_batches": 8, "value_trunk": "shared", "lora": LORA, "target_kl": 0.5}),
}

REWARDS = '''
import os, signal
from pathlib import Path

calls = 0

def letters(prompts, answers):
    """The letters e of an answer."""
    return [float(answer.count("e")) for answer in answers]

def interrupting(prompts, answers):
    """The second process is asked to stop while it scores the third update, once."""
    global calls
    calls += 1
    marker = Path(__file__).with_name("interrupted")
    if os.environ.get("RANK") == "1" and calls == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGINT)
    return letters(prompts, answers)

def failing(prompts, answers):
    return [float("nan") if os.environ.get("RANK") == "1" else 0.0 for _ in answers]
'''


@pytest.fixture
def make_online(make_job: MakeJob, sample_rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    (tmp_path / "two_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)
    rows = [{"prompt": row["prompt"]} for row in sample_rows("dpo", 5)]

    def make(run: str, name: str, reward: str = "letters") -> Job:
        method, options = RUNS[run]
        job = make_job(method, f"{run}-{name}", rows=rows, **{**ANSWERS, **options})
        return dataclasses.replace(job, reward={"kind": "function", "name": f"two_rewards:{reward}"})

    return make


def launch(jobs: Sequence[Job], path: Path) -> tuple[list[dict[str, Any]], str]:
    """Train by two processes: the events, and what was said beside them. `path`: where rewards are found."""
    files = [Path(f"{job.out}.json") for job in jobs]
    for job, file in zip(jobs, files, strict=True):
        job.write(file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "docs/accelerate/ddp.yaml"]
    command += ["--main_process_port", port, "-m", "pipeline.trainers", *map(str, files)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{path}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr[-4000:]


def weights(job: Job) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(job.out) / f"{'adapter_model' if job.lora else 'model'}.safetensors"))


def check_same_training(two: Job, one: Job, *leave_out: str) -> None:
    here, there = (read(Path(job.out) / NAME) for job in (one, two))
    assert [line["step"] for line in there] == [line["step"] for line in here] == list(range(1, STEPS + 1))
    for name in here[0].keys() - {"time", *leave_out}:
        assert [line[name] for line in there] == pytest.approx([line[name] for line in here], rel=1e-5, abs=1e-5), name
    expected, found = weights(one), weights(two)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert (found[name] - tensor).abs().max() < 1e-5, name
    assert checkpoint.verify(Path(two.out)).metrics["per_device_train_batch_size"] == 4
    assert not two.partial.exists() and not two.resume.exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_make_the_runs_of_one(make_online: MakeJob, tmp_path: Path) -> None:
    """A run that only the second process is asked to stop comes first; it is resumed by the second launch. The last
    job's reward fails in the second process alone, and the first tells it."""
    stopped = make_online("ppo", "stopped", "interrupting")
    events, said = launch([stopped], tmp_path)
    assert [event["event"] for event in events] == ["step"] * 3 + ["interrupted"], said
    assert sorted(folder.name for folder in stopped.resume.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]

    jobs = {name: make_online(name, "two") for name in RUNS}
    failing = make_online("ppo", "failing", "failing")
    events, said = launch([stopped, *jobs.values(), failing], tmp_path)
    whole = ["step"] * STEPS + ["done"]
    assert [event["event"] for event in events] == ["step", "done", *whole * len(jobs), "user_error"], said
    assert "must return a finite number" in events[-1]["message"]
    assert not Path(failing.out).exists()

    alone = {name: make_online(name, "one") for name in RUNS}
    for name, job in alone.items():
        runner.run(job)
        # GRPO's KL is a mean of means of what goes through the model at a time.
        check_same_training(jobs[name], job, *(("kl",) if job.method == "grpo" else ()))
    check_same_training(stopped, alone["ppo"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shares_are_the_whole(count: int) -> None:
    parts = [Processes(index, count).share(range(8)) for index in range(count)]
    assert [item for part in parts for item in part] == list(range(8))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_several_processes_cannot_do_is_said(
    make_online: MakeJob, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(job: Job, message: str) -> None:
        with pytest.raises(UserError, match=message), contextlib.ExitStack() as lock:
            runner._begin(job, trainers.load(job.method), lock, 2)
        assert not job.resume.exists()

    refused(make_job("best_of_n"), "best_of_n trains in one process")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    refused(make_online("ppo", "sharded"), "ppo samples from the whole model, .* use docs/accelerate/ddp.yaml")
