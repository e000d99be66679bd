"""Reward models of k heads: their loss by hand, what sets the heads apart, their figures and their folders."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from constitution.errors import UserError
from pipeline import rewards
from pipeline.models import checkpoint, merging
from pipeline.trainers.calibration import calibrate
from pipeline.trainers.reward import bootstrap_weights
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def rows_of(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(job.dataset).read_text().splitlines()]


def members(folder: str | Path, rows: list[dict[str, Any]], side: str) -> np.ndarray:
    """[rows, heads] raw rewards, through the reward that a policy would be trained on."""
    reward = rewards.build({"kind": "model", "paths": str(folder), "device": "cpu"})
    return np.array(reward.inner.members([r["prompt"] for r in rows], [r[side][0]["content"] for r in rows]))


def test_the_loss_of_a_pair_is_the_weighted_mean_of_its_heads_losses(make_job: MakeJob) -> None:
    job = make_job(
        "reward", heads=3, learning_rate=0.0, max_steps=1, per_device_train_batch_size=6, gradient_accumulation_steps=4
    )
    manifest = run(job)  # 24 rows are one batch, and nothing is learnt: the saved heads are those of the loss
    rows = rows_of(job)
    d = members(job.out, rows, "chosen") - members(job.out, rows, "rejected")
    p = np.array([row["p"] for row in rows])[:, None]
    weights = np.array(bootstrap_weights(job.seed, range(1, 25), 3))
    losses = p * np.logaddexp(0, -d) + (1 - p) * np.logaddexp(0, d)
    assert manifest.metrics["first_loss"] == pytest.approx((weights * losses).mean(), abs=1e-5)
    assert abs((weights * losses).mean() - losses.mean()) > 1e-3


def test_the_weights_are_poisson_and_fixed_by_the_line_and_the_seed() -> None:
    weights = np.array(bootstrap_weights(0, range(2_000), 4))
    assert set(weights.flatten()) <= set(range(12))
    assert weights.mean() == pytest.approx(1.0, abs=0.05)
    assert weights.var() == pytest.approx(1.0, abs=0.1)
    assert (weights == 0).mean() == pytest.approx(math.exp(-1), abs=0.02)
    assert np.abs(np.corrcoef(weights.T) - np.eye(4)).max() < 0.08  # heads see samples of their own
    assert bootstrap_weights(0, [7, 1_500], 4) == weights[[7, 1_500]].tolist()
    assert bootstrap_weights(1, range(2_000), 4) != weights.tolist()


def test_heads_learn_differ_and_say_what_they_are(make_job: MakeJob) -> None:
    job = make_job("reward", heads=3)
    job = replace(job, eval_dataset=job.dataset)
    manifest = run(job)
    metrics, rows = manifest.metrics, rows_of(job)
    assert checkpoint.heads(Path(job.out)) == 3
    assert metrics["loss"] < metrics["first_loss"]
    chosen, rejected = members(job.out, rows, "chosen"), members(job.out, rows, "rejected")
    assert ((chosen - rejected).mean(axis=0) > 0).all()
    both = np.concatenate([chosen, rejected])
    assert [m["mean"] for m in metrics["members"]] == pytest.approx(both.mean(axis=0), abs=1e-5)
    assert [m["std"] for m in metrics["members"]] == pytest.approx(both.std(axis=0, ddof=1), abs=1e-5)
    assert metrics["reward_mean"] == pytest.approx(both.mean(), abs=1e-5)
    normalised = (both - both.mean(axis=0)) / both.std(axis=0, ddof=1)
    assert (normalised.std(axis=1) > 1e-3).mean() > 0.9  # no two heads are the same
    lengths = [len(row[side][0]["content"]) for side in ("chosen", "rejected") for row in rows]
    fitted = statistics.linear_regression(lengths, normalised.mean(axis=1).tolist())
    assert metrics["length_slope"] == pytest.approx(fitted.slope, abs=1e-6)
    assert metrics["length_mean"] == pytest.approx(statistics.fmean(lengths))
    told = [json.loads(line) for line in (Path(job.out) / "heldout.jsonl").read_text().splitlines()]
    assert [line["margin"] for line in told] == pytest.approx((chosen - rejected).mean(axis=1), abs=1e-5)
    calibrated = calibrate([line["margin"] / metrics["temperature"] for line in told], [r["p"] for r in rows])
    assert calibrated.ece == pytest.approx(metrics["eval_ece_calibrated"], abs=1e-6)
    assert calibrated.cross_entropy <= metrics["eval_loss"]


def test_length_control_leaves_no_slope_on_the_reference_set(make_job: MakeJob) -> None:
    job = make_job("reward", heads=2)
    run(job)
    rows = rows_of(job)
    answers = [row[side][0]["content"] for side in ("chosen", "rejected") for row in rows]
    spec = {"kind": "model", "paths": job.out, "device": "cpu", "length_controlled": True}
    scores = rewards.build(spec).score([row["prompt"] for row in rows] * 2, answers)
    assert statistics.linear_regression([len(a) for a in answers], scores).slope == pytest.approx(0, abs=1e-6)
    assert statistics.fmean(scores) == pytest.approx(0, abs=1e-5)


def test_one_head_is_what_it_was_and_has_no_weights(make_job: MakeJob) -> None:
    plain = run(make_job("reward", "plain", max_steps=3))
    named = run(make_job("reward", "named", max_steps=3, heads=1))
    assert named.digest == plain.digest
    assert plain.metrics["members"] == [{"mean": plain.metrics["reward_mean"], "std": plain.metrics["reward_std"]}]
    assert {"temperature", "heads_loss"}.isdisjoint(plain.metrics)


def test_an_adapter_keeps_its_heads_and_so_does_the_merged_model(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("reward", heads=3, lora=LORA)
    manifest = run(job)
    assert len(manifest.metrics["members"]) == checkpoint.heads(Path(job.out)) == 3
    merging.merge(Path(job.out), tmp_path / "merged")
    rows = rows_of(job)[:4]
    adapter, merged = (members(folder, rows, "chosen") for folder in (job.out, tmp_path / "merged"))
    assert adapter.shape == (4, 3)
    assert np.allclose(adapter, merged, atol=1e-5)
    means = [member["mean"] for member in manifest.metrics["members"]]
    whole = np.concatenate([members(job.out, rows_of(job), side) for side in ("chosen", "rejected")])
    assert means == pytest.approx(whole.mean(axis=0), abs=1e-5)


def test_an_ensemble_of_folders_and_heads_rewards_as_one(make_job: MakeJob) -> None:
    jobs = [make_job("reward", "a", heads=2, max_steps=2), make_job("reward", "b", seed=1, max_steps=2)]
    for job in jobs:
        run(job)
    spec = {"kind": "model", "paths": [job.out for job in jobs], "device": "cpu", "combine": "minimum"}
    rows = rows_of(jobs[0])[:4]
    raw = np.concatenate([members(job.out, rows, "chosen") for job in jobs], axis=1)
    norms = [m for job in jobs for m in checkpoint.verify(Path(job.out)).metrics["members"]]
    normalised = (raw - [m["mean"] for m in norms]) / [m["std"] for m in norms]
    scores = rewards.build(spec).score([r["prompt"] for r in rows], [r["chosen"][0]["content"] for r in rows])
    assert scores == pytest.approx(normalised.min(axis=1), abs=1e-5)


def test_accumulated_micro_batches_are_one_batch(make_job: MakeJob) -> None:
    size = {"per_device_train_batch_size": 8, "heads": 3, "max_steps": 3}
    whole = run(make_job("reward", "whole", **size))
    parts = run(
        make_job("reward", "parts", **{**size, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})
    )
    for one, other in zip(whole.metrics["members"], parts.metrics["members"], strict=True):
        assert one["mean"] == pytest.approx(other["mean"], abs=1e-4)


@pytest.mark.parametrize("heads", [0, -1, 1.5, True, "3"])
def test_a_number_of_heads_that_is_none_is_refused(make_job: MakeJob, heads: Any) -> None:
    with pytest.raises(UserError, match=r"heads is .*; it must be a whole number, 1 or more"):
        run(make_job("reward", heads=heads))


def test_other_methods_have_no_heads(make_job: MakeJob) -> None:
    with pytest.raises(UserError, match="dpo does not read heads"):
        run(make_job("dpo", heads=2))


def test_two_saved_heads_load_as_two(make_job: MakeJob) -> None:
    from transformers import AutoModelForSequenceClassification

    job = make_job("reward", heads=2, max_steps=1)  # transformers leaves two labels, its default, out of config.json
    run(job)
    model = AutoModelForSequenceClassification.from_pretrained(job.out)
    assert model.score.weight.shape[0] == model.config.num_labels == 2
    assert not torch.equal(model.score.weight[0], model.score.weight[1])
