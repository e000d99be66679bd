"""A head on frozen states: it is the fit that it says it is, the layer that knows is the one that is chosen, and the
folder that is made of it is a reward model like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from constitution.errors import UserError
from pipeline import rewards, trainers
from pipeline.models import checkpoint
from pipeline.rewards import reading
from pipeline.trainers import frozen, memory
from pipeline.trainers.frozen import States
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]


@pytest.fixture
def head(make_job: MakeJob) -> MakeJob:
    """`make_job("reward_head", ...)` without the arguments that other methods are tested with."""

    def make(name: str = "out", **options: Any) -> Job:
        job = make_job("reward_head", name, **options)
        kept = {key: value for key, value in job.arguments.items() if key in trainers.load("reward_head").DEFAULTS}
        return replace(job, arguments=kept)

    return make


def states(pairs: int, layers: dict[int, float], seed: int = 0, width: int = 12) -> States:
    """Pairs whose p follows a direction of the states: of each layer as much of it, and noise."""
    rng = np.random.default_rng(seed)
    margin, direction = rng.normal(size=pairs), rng.normal(size=width)
    direction /= np.linalg.norm(direction)
    sides = []
    for sign in (1, -1):
        told = [
            sign * share * margin[:, None] * direction + rng.normal(size=(pairs, width)) for share in layers.values()
        ]
        sides.append(np.stack(told, axis=1).astype(np.float32))
    p = 1 / (1 + np.exp(-2 * margin))
    openings = tuple(f"opening {number // 2}" for number in range(pairs))
    return States(tuple(layers), *sides, p, tuple(range(pairs)), openings, np.ones((pairs, 2), dtype=np.int64))


def test_a_fit_is_logistic_regression_and_with_soft_targets_its_slope_is_none() -> None:
    rng = np.random.default_rng(1)
    x, ridge = rng.normal(size=(200, 6)) * [1, 5, 1, 0.1, 1, 1], 0.05
    hard = (rng.random(200) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
    (weight,) = frozen.fit(x, hard, [ridge])
    scale = np.sqrt((x**2).mean(axis=0))
    theirs = LogisticRegression(C=1 / (200 * ridge), fit_intercept=False, tol=1e-10, max_iter=10_000).fit(
        x / scale, hard
    )
    assert weight * scale == pytest.approx(theirs.coef_[0], abs=1e-4)

    soft = rng.random(200)
    loose, tight = frozen.fit(x, soft, [1e-3, 1.0])
    for weight, ridge in ((loose, 1e-3), (tight, 1.0)):
        slope = (x / scale).T @ (1 / (1 + np.exp(-x @ weight)) - soft) / 200 + ridge * weight * scale
        assert np.abs(slope).max() < 1e-5
    assert np.linalg.norm(tight * scale) < np.linalg.norm(loose * scale)


def test_the_layer_that_knows_is_chosen_on_openings_that_it_was_not_fitted_to() -> None:
    pairs = states(400, {1: 0.1, 2: 1.5, 3: 0.4})
    chosen = frozen.choose(pairs, [1e-3, 0.1], 5, seed=0)
    assert chosen.layer == 2 and 0.75 < chosen.metrics["cv_accuracy"] <= 1
    parts = frozen.fold_of(pairs.openings, 5, 0)
    assert (parts[::2] == parts[1::2]).all() and len(set(parts.tolist())) == 5
    noise = frozen.choose(states(60, {1: 0.0}, width=80), [1e-3], 5, seed=0)
    assert noise.metrics["rewards/accuracies"] > 0.95  # it knows these by heart, and cross-validation is not fooled
    assert noise.metrics["cv_accuracy"] < 0.75


def test_its_folder_is_a_reward_model_like_any_other(head: MakeJob) -> None:
    job = head()
    job = replace(job, eval_dataset=job.dataset)
    manifest = run(job)
    metrics = manifest.metrics
    assert manifest.kind == "reward_model" and checkpoint.heads(Path(job.out)) == 1
    config = json.loads((Path(job.out) / "config.json").read_text())
    assert config["num_hidden_layers"] == metrics["layer"] in (1, 2)
    assert "those of the last token alone" in (Path(job.out) / "README.md").read_text()
    assert dict(memory.estimate(job).parts)["gradients"] == 0
    rows = [json.loads(line) for line in Path(job.dataset).read_text().splitlines()]
    reward = rewards.build({"kind": "model", "paths": job.out, "device": "cpu"})
    raw = {
        side: np.array(reward.inner.members([r["prompt"] for r in rows], [r[side][0]["content"] for r in rows]))[:, 0]
        for side in ("chosen", "rejected")
    }
    told = [json.loads(line) for line in (Path(job.out) / "heldout.jsonl").read_text().splitlines()]
    for side, values in raw.items():
        assert [line[side] for line in told] == pytest.approx(values, abs=1e-4)
    both = np.concatenate(list(raw.values()))
    assert (metrics["reward_mean"], metrics["reward_std"]) == pytest.approx((both.mean(), both.std(ddof=1)), abs=1e-4)
    assert metrics["eval_accuracy"] > 0.9 and metrics["loss"] < 0.6  # "please" or "thanks" is the first word


def test_the_fit_is_the_same_again_and_another_layer_is_another_model(head: MakeJob) -> None:
    one, same, other = run(head("one")), run(head("same")), run(head("other", layers=[1]))
    assert one.digest == same.digest
    assert other.metrics["layer"] == 1
    folders = [head(name).out for name in ("one", "same", "other")]
    prints = [rewards.fingerprint({"kind": "model", "paths": folder}) for folder in folders]
    assert (prints[0] == prints[2]) == (one.digest == other.digest) and prints[0] == prints[1]


def test_method_reward_goes_on_from_the_head(head: MakeJob, make_job: MakeJob) -> None:
    begun = head("head")
    run(begun)
    going = make_job("reward", "on", model=begun.out, max_steps=1, learning_rate=0.0, per_device_train_batch_size=24)
    manifest = run(going)
    probe = checkpoint.verify(Path(begun.out)).metrics
    assert manifest.metrics["first_loss"] == pytest.approx(probe["loss"], abs=1e-3)  # it begins where the head ended


def test_layers_of_several_kinds_are_cut_with_their_kinds(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig, Gemma3TextForSequenceClassification

    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=8, num_labels=1, pad_token_id=0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma3TextForSequenceClassification(config).eval()
    ids = torch.randint(1, 64, (1, 12))
    kept = frozen.Reader.__new__(frozen.Reader)
    kept._layers, kept._pad, kept._model, kept._device = (3,), 0, model, torch.device("cpu")
    kept._blocks, kept._norm = frozen.blocks_of(model), frozen.last_norm(model)
    state = kept.states([(ids[0, :4].tolist(), ids[0, 4:].tolist())])[0, 0]
    weight = np.random.default_rng(0).normal(size=16)
    frozen.cut(model, frozen.Head(3, weight, {}))
    model.save_pretrained(tmp_path)
    again = Gemma3TextForSequenceClassification.from_pretrained(tmp_path).eval()
    assert len(again.config.layer_types) == again.config.num_hidden_layers == 3
    with torch.no_grad():
        found = reading.rewards(again, ids, torch.ones_like(ids), torch.tensor([4]))
    assert reading.over_answer(again) and found.item() == pytest.approx(float(state @ weight), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": [3]}, "layers names layer 3, and the model has 2"),
        ({"layers": [0]}, "it must be a list of whole numbers, 1 or more"),
        ({"ridges": []}, "ridges is empty"),
        ({"ridges": [-1.0]}, "it must be a list of numbers, 0 or more"),
        ({"folds": 1}, "it must be a whole number, 2 or more"),
        ({"lora": {"r": 4}}, "leave lora out"),
        ({"learning_rate": 1e-3}, "reward_head does not read learning_rate"),
    ],
)
def test_mistakes_are_told(make_job: MakeJob, head: MakeJob, options: dict[str, Any], said: str) -> None:
    job = head("out", **options)
    if "learning_rate" in options:
        job = replace(job, arguments={**job.arguments, **options})
    with pytest.raises(UserError, match=said):
        trainers.resolve("reward_head", job.arguments)
        run(job)


def test_pairs_of_one_opening_are_too_few_to_choose_by(head: MakeJob, sample_rows: Callable[..., Any]) -> None:
    rows = [{**row, "prompt": [{"role": "user", "content": "hello"}]} for row in sample_rows("reward_head", 6)]
    with pytest.raises(UserError, match="too few to choose a layer by cross-validation"):
        run(head(rows=rows))
