"""Runs of PPO that must be equal, or start at their reference, or be refused, or stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline.trainers import ppo, publishing, runner
from pipeline.trainers.progress import NAME, Interruption, read
from pipeline.trainers.trainer import Job, TrainingStopped

MakeJob = Callable[..., Job]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
# Of one run, that are not the run's: where and when.
TIMES = {"seconds", "seconds_sampling", "seconds_scoring", "seconds_training", "peak_memory_mb"}


def talking(make_job: MakeJob, name: str, **options: Any) -> Job:
    """On the tiny model with many words: 8 episodes an update, answers of up to 6 tokens."""
    defaults = {
        "max_steps": 4,
        "max_completion_length": 6,
        "per_device_train_batch_size": 8,
        "num_ppo_epochs": 2,
        "num_mini_batches": 2,
        "kl_target": 1.0,
        "kl_horizon": 100,
    }
    lora = options.pop("lora", None)
    return make_job("ppo", name, lora=lora, **{**defaults, **options})


def curve(job: Job, *leave_out: str) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in ("time", *leave_out)} for line in read(Path(job.out) / NAME)]


def weights(job: Job) -> dict[str, torch.Tensor]:
    name = "adapter_model" if job.lora else "model"
    return dict(load_file(Path(job.out) / f"{name}.safetensors"))


VOWELS = 'sum(answer.count(letter) for letter in "aeiou") - 0.1 * len(answer)'


@pytest.mark.parametrize(("lora", "trunk"), [(None, "separate"), (LORA, "shared")])
def test_a_run_that_was_interrupted_and_resumed_is_the_same_run(
    lora: dict[str, Any] | None, trunk: str, make_job: MakeJob, rewarded: Any
) -> None:
    whole = rewarded(talking(make_job, "whole", lora=lora, value_trunk=trunk), VOWELS)
    parts = rewarded(talking(make_job, "parts", lora=lora, value_trunk=trunk, save_steps=1), VOWELS)
    expected = runner.run(whole)
    interruption = Interruption()

    def ctrl_c(line: dict[str, Any]) -> None:
        if line["step"] == 2:
            interruption()

    with pytest.raises(KeyboardInterrupt):
        runner.run(parts, on_step=ctrl_c, interruption=interruption)
    assert sorted(path.name for path in parts.resume.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    torch.rand(3)  # another process would have drawn other numbers by now
    steps: list[int] = []
    resumed = runner.run(parts, on_step=lambda line: steps.append(line["step"]))
    assert steps == [3, 4]
    assert curve(parts) == curve(whole)
    assert resumed.digest == expected.digest
    kept = [{k: v for k, v in each.metrics.items() if k not in TIMES} for each in (resumed, expected)]
    assert kept[0] == kept[1]


def test_a_damaged_resume_state_is_passed_over(make_job: MakeJob, rewarded: Any) -> None:
    job = rewarded(talking(make_job, "damaged", save_steps=1), VOWELS)
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt):
        runner.run(job, on_step=lambda line: line["step"] == 2 and interruption(), interruption=interruption)
    state = job.resume / "checkpoint-2" / "critic.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    steps: list[int] = []
    runner.run(job, on_step=lambda line: steps.append(line["step"]))
    assert steps == [2, 3, 4]


def test_a_batch_in_pieces_is_the_batch(make_job: MakeJob, rewarded: Any) -> None:
    whole = rewarded(talking(make_job, "whole"), VOWELS)
    pieces = rewarded(talking(make_job, "pieces", per_device_train_batch_size=2, gradient_accumulation_steps=4), VOWELS)
    runner.run(whole)
    runner.run(pieces)
    for one, other in zip(curve(whole), curve(pieces), strict=True):
        assert one == pytest.approx(other, abs=2e-5)
    for name, tensor in weights(whole).items():
        assert torch.allclose(tensor, weights(pieces)[name], atol=1e-5), name


def test_out_of_memory_halves_the_rows_and_changes_nothing_else(
    make_job: MakeJob, rewarded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = rewarded(talking(make_job, "plain"), VOWELS)
    runner.run(plain)
    forward = ppo.PPO.forward

    def cramped(self: Any, batch: Any) -> Any:
        if len(batch.ids) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, batch)

    monkeypatch.setattr(ppo.PPO, "forward", cramped)
    job = rewarded(talking(make_job, "cramped"), VOWELS)
    assert runner.run(job).metrics["per_device_train_batch_size"] == 2
    assert "out of memory with 8 rows a device; trying 4 at the same effective batch" in caplog.text
    for one, other in zip(curve(plain), curve(job), strict=True):
        assert one == pytest.approx(other, abs=2e-5)


def test_a_step_that_would_go_too_far_is_not_taken(make_job: MakeJob, rewarded: Any) -> None:
    options = {"max_steps": 2, "learning_rate": 1e-2, "num_mini_batches": 1, "num_ppo_epochs": 6}
    free, tied = (
        rewarded(talking(make_job, f"target-{target}", target_kl=target, **options), VOWELS) for target in (None, 1e-3)
    )
    runner.run(free)
    runner.run(tied)
    assert [line["inner_steps"] for line in curve(free)] == [6, 6]
    for line in curve(tied):
        assert 1 <= line["inner_steps"] < 6
        assert line["approx_kl"] <= 1e-3


@pytest.mark.parametrize(("lora", "trunk"), [(LORA, "shared"), (None, "separate")])
def test_layers_computed_again_for_their_gradients_change_nothing(
    lora: dict[str, Any] | None, trunk: str, make_job: MakeJob, rewarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    passes = 0
    compute = Qwen3MLP.forward

    def counted(self: Any, x: Any) -> Any:
        nonlocal passes
        passes += 1
        return compute(self, x)

    monkeypatch.setattr(Qwen3MLP, "forward", counted)
    options = {"lora": lora, "value_trunk": trunk, "max_steps": 2, "max_completion_length": 1}
    plain = rewarded(talking(make_job, "plain", **options), VOWELS)
    again = rewarded(talking(make_job, "again", gradient_checkpointing=True, **options), VOWELS)
    runner.run(plain)
    without, passes = passes, 0
    runner.run(again)
    # Two layers in each of 2 x 4 optimiser steps, of the policy and of a critic with a trunk of its own.
    assert passes - without == 2 * 8 * (1 if trunk == "shared" else 2)
    for one, other in zip(curve(plain), curve(again), strict=True):
        assert one == pytest.approx(other, abs=2e-5)


# --- the reference -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, LORA])
def test_the_first_update_starts_at_the_reference(
    lora: dict[str, Any] | None, dtype: str, make_job: MakeJob, rewarded: Any
) -> None:
    job = rewarded(talking(make_job, "start", lora=lora, dtype=dtype, max_steps=2), VOWELS)
    runner.run(job)
    first, second = curve(job)
    if lora:
        assert first["kl"] == 0.0
    else:  # a copy lies elsewhere in memory, which may move the last bit
        assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(second["kl"]) > 1e-4
    if lora is None:
        assert {str(tensor.dtype) for tensor in weights(job).values()} == {f"torch.{dtype}"}


def test_the_reference_of_an_adapter_on_an_adapter_is_its_parent(make_job: MakeJob, rewarded: Any) -> None:
    below = rewarded(talking(make_job, "below", lora=LORA, learning_rate=1e-2), VOWELS)
    runner.run(below)
    above = rewarded(talking(make_job, "above", lora=LORA, model=below.out, value_trunk="shared"), VOWELS)
    runner.run(above)
    assert curve(below)[-1]["kl"] > 0.01
    assert curve(above)[0]["kl"] == 0.0


# --- what is refused, and what stops a run -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_coef": math.inf}, "kl_coef is inf; it must be a finite number, 0 or more"),
        ({"kl_coef": math.nan}, "kl_coef is nan"),
        ({"kl_coef": -0.1}, "kl_coef is -0.1"),
        ({"kl_coef": None}, "kl_coef is None"),
        ({"kl_coef": 0.0}, "kl_target multiplies kl_coef, and 0 stays 0"),
        ({"gamma": 1.1}, "gamma is 1.1; it must be a number from 0 to 1"),
        ({"temperature": 0}, "temperature is 0; it must be a finite number above 0"),
        ({"num_mini_batches": 3}, "8 episodes an update .* make no 3 equal minibatches"),
        ({"value_trunk": "both"}, "value_trunk is 'both'"),
        ({"cliprang": 0.1}, "ppo does not read cliprang; did you mean cliprange?"),
        ({"lr_scheduler_type": "wavy"}, "lr_scheduler_type is 'wavy'; it must be one of linear, cosine"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], message: str, make_job: MakeJob, rewarded: Any) -> None:
    with pytest.raises(UserError, match=message):
        runner.run(rewarded(talking(make_job, "wrong", **options), VOWELS))


def test_without_a_reward_there_is_nothing_to_learn(make_job: MakeJob) -> None:
    with pytest.raises(UserError, match="ppo learns from a reward; name one"):
        runner.run(talking(make_job, "none"))


def test_a_loss_that_is_not_finite_stops_the_run(make_job: MakeJob, rewarded: Any, model: Path) -> None:
    job = rewarded(talking(make_job, "wild", learning_rate=1e30, save_steps=1), VOWELS)
    with pytest.raises(
        TrainingStopped, match=rf"step \d: (loss|grad_norm) is (nan|inf).*the parent {model} is unchanged"
    ):
        runner.run(job)
    assert publishing.finished(job) is None


def test_a_reward_that_is_not_finite_stops_the_run(make_job: MakeJob, rewarded: Any) -> None:
    job = rewarded(talking(make_job, "nan"), "float('nan')")
    with pytest.raises(UserError, match="must return a finite number"):
        runner.run(job)
