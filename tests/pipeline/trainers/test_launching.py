"""Two processes that the asking process starts itself, over gloo: the losses of one, interrupted, killed, misused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.trainers import Worker, launching
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job
from pipeline.trainers.worker import TrainingKilled

MakeJob = Callable[..., Job]
ROOT = Path(__file__).parents[3]
OFFLINE = ("sft", "reward", "dpo", "orpo")
CUT = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
PPO = {"max_steps": 2, "num_train_epochs": 1, "max_completion_length": 8, "per_device_train_batch_size": 8}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("rewards")
    (folder / "longer_is_better.py").write_text(
        "def score(prompts, answers):\n    return [float(len(answer)) for answer in answers]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
        with Worker(env, processes=2) as started:
            yield started


def curve(job: Job, name: str) -> list[float]:
    return [line[name] for line in read(Path(job.out) / NAME)]


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_that_a_flow_starts_train_to_the_losses_of_one(
    two: Worker, make_job: MakeJob, sample_rows: Any
) -> None:
    made = [(make_job(m, f"{m}-one", **CUT), make_job(m, f"{m}-two", **CUT)) for m in OFFLINE]
    prompts = [{"prompt": row["prompt"]} for row in sample_rows("sft")]
    reward = {"kind": "function", "name": "longer_is_better:score"}
    one, other = (replace(make_job("ppo", name, rows=prompts, **PPO), reward=reward) for name in ("one", "two"))
    watch = {"dataset": one.dataset, "judge": reward, "every": 1}
    one, other = replace(one, watch=watch), replace(other, watch=watch)
    told: list[int] = []
    for alone, together in [*made, (one, other)]:
        run(alone)
        told.clear()
        two.run(together, lambda _, line: told.append(line["step"]))
        assert told == list(range(1, len(curve(alone, "loss")) + 1))
        for name in ("loss", "grad_norm"):
            assert curve(together, name) == pytest.approx(curve(alone, name), abs=1e-5), (alone.method, name)
    here, there = (read(Path(job.out) / "watch.jsonl") for job in (one, other))
    assert [line["step"] for line in there] == [0, 1, 2]
    for name in ("proxy", "judge", "kl", "entropy", "kept"):
        assert [line[name] for line in there] == pytest.approx([line[name] for line in here], abs=1e-5), name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interruption_saves_what_a_death_does_not_take_and_the_rest_goes_on(two: Worker, make_job: MakeJob) -> None:
    long = {"max_steps": 40, "save_steps": 10, **CUT}
    job, alone = make_job("dpo", "hurt", **long), make_job("dpo", "alone", **long)
    steps: list[int] = []

    def interrupted(_: Job, line: dict[str, Any]) -> None:
        steps.append(line["step"])
        if line["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two.run(job, interrupted)
    steps.clear()

    def killed(_: Job, line: dict[str, Any]) -> None:
        steps.append(line["step"])
        if line["step"] == 15:
            assert two.pid is not None
            os.kill(children(two.pid)[1], signal.SIGKILL)

    with pytest.raises(TrainingKilled, match="killed by the system"):
        two.run(job, killed)
    assert 5 < steps[0] < 10  # where the interruption left it
    steps.clear()
    two.run(job, lambda _, line: steps.append(line["step"]))
    assert steps[0] in (11, 21) and steps[-1] == 40
    run(alone)
    assert curve(job, "loss") == pytest.approx(curve(alone, "loss"), abs=1e-5)

    with pytest.raises(UserError, match="cannot be shared by 2 processes"):
        two.run(make_job("dpo", "odd", per_device_train_batch_size=3))


def test_each_process_has_its_place_and_what_accelerate_would_say() -> None:
    one, two = launching.environments(2, str(ROOT / "docs/accelerate/fsdp.yaml"))
    assert (one["RANK"], two["LOCAL_RANK"], one["WORLD_SIZE"]) == ("0", "1", "2")
    assert one["ACCELERATE_USE_FSDP"] == "true" and one["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert one["MASTER_PORT"] == two["MASTER_PORT"] != launching.environments(2, "")[0]["MASTER_PORT"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense: [", "accelerate cannot use it"),
        ("compute_environment: LOCAL_MACHINE\ndistributed_type: ODD\nnum_processes: 2\n", "accelerate cannot use it"),
        (
            "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 2\nmachine_rank: 0\n"
            'num_processes: 2\nmixed_precision: "no"\n',
            "for 2 machines launch the job's file yourself",
        ),
    ],
)
def test_a_file_that_accelerate_cannot_use_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        launching.environments(2, str(tmp_path / "a.yaml"))
