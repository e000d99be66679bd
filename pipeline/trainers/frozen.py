"""Hidden states of a frozen model, a linear head on them, and the model cut down to what the head reads.

What is fitted is the loss of `soft_targets` for x = w (h(chosen) - h(rejected)), with a ridge on w where h is measured
in standard deviations of the differences. The state h of an answer is the mean over its tokens of what the model's own
last normalisation makes of a layer's output: a model that ends at that layer, with w for a head, gives the very number
(`pipeline.rewards.reading`).

This module imports torch and transformers: import it inside `train`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from constitution.errors import UserError
from constitution.records import Message, Role, seed_of, split_group
from pipeline.models import merging
from pipeline.rewards.reading import ANSWER, KEY, answers
from pipeline.trainers.calibration import calibrate, fit_temperature, slope
from pipeline.trainers.fitting import use_cuda
from pipeline.trainers.rows import like_lengths
from pipeline.trainers.trainer import Job, Progress

Floats = NDArray[np.float64]
TRIED = 8  # layers, where none are named


@dataclass(frozen=True)
class States:
    """What was read of pairs: `chosen` and `rejected` [pairs, layers, width], of the layers that are named, and of each
    pair its p, its line in the file, its opening, and the characters of its answers [pairs, 2]."""

    layers: tuple[int, ...]
    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]
    p: Floats
    lines: tuple[int, ...]
    openings: tuple[str, ...]
    lengths: NDArray[np.int64]

    def of(self, layer: int) -> tuple[Floats, Floats]:
        """The states [pairs, width] of a layer, of the chosen answers and of the rejected."""
        at = self.layers.index(layer)
        return self.chosen[:, at].astype(np.float64), self.rejected[:, at].astype(np.float64)


@dataclass(frozen=True)
class Head:
    """`weight` [width]: the reward of a state is their product."""

    layer: int
    weight: Floats
    metrics: dict[str, Any]

    def rewards(self, states: States) -> tuple[Floats, Floats]:
        chosen, rejected = states.of(self.layer)
        return chosen @ self.weight, rejected @ self.weight


# --- reading ---------------------------------------------------------------------------------------------------------


def blocks_of(model: Any) -> nn.ModuleList:
    """The layers of a model, of which there are as many as its configuration says. Raises UserError where they are not
    found in one list."""
    count = model.config.get_text_config().num_hidden_layers
    lists = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise UserError(
            f"a {type(model).__name__} does not hold its {count} layers in one list, so it cannot be cut; take method "
            "reward"
        )
    return lists[0]


def layers_of(model: Any, asked: Sequence[int]) -> tuple[int, ...]:
    """The layers that are tried. Raises UserError for one that the model does not have."""
    count = len(blocks_of(model))
    if wrong := [layer for layer in asked if layer > count]:
        raise UserError(f"arguments: layers names layer {wrong[0]}, and the model has {count}")
    return tuple(sorted({*(asked or (round(at) for at in np.linspace(max(1, count / 3), count, TRIED)))}))


class Reader:
    """Reads pairs with a model that is not trained. `progress` hears of every batch."""

    def __init__(self, job: Job, model: Any, layers: Sequence[int], pad: int, progress: Progress) -> None:
        self._job, self._layers, self._pad, self._progress = job, tuple(layers), pad, progress
        self._device = torch.device("cuda" if use_cuda(job) else "cpu")
        if job.dtype == "bfloat16":
            merging.rounded(model, torch.bfloat16)
        self._model = model.to(self._device).eval()
        self._blocks = blocks_of(model)
        self._norm = last_norm(model)
        self.steps = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 2)

    def read(self, table: Any, what: str) -> States:
        """The states of prepared pairs (`rows.load_rows`)."""
        sides: dict[str, list[Any]] = {"chosen": [None] * len(table), "rejected": [None] * len(table)}
        parts = like_lengths(table, int(self._job.arguments["per_device_eval_batch_size"]))
        total = self.steps + len(parts)
        for part in parts:
            rows = [table[index] for index in part]
            texts = [(row["prompt_ids"], row[f"{side}_ids"]) for side in sides for row in rows]
            states = self.states(texts)
            for at, (side, index) in enumerate((side, index) for side in sides for index in part):
                sides[side][index] = states[at]
            self.steps += 1
            self._progress.step(self.steps, total, {"pairs": float(len(part))})
            if self._progress.interrupted:
                raise KeyboardInterrupt(f"interrupted while the {what} were read")
        said = [[sum(len(m["content"]) for m in row[side]) for side in sides] for row in table]
        turns = [tuple(Message(cast(Role, m["role"]), m["content"]) for m in row["prompt"]) for row in table]
        return States(
            self._layers, np.stack(sides["chosen"]), np.stack(sides["rejected"]), np.asarray(table["p"], float),
            tuple(table["line"]), tuple(map(split_group, turns)), np.asarray(said),
        )  # fmt: skip

    @torch.inference_mode()
    def states(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> NDArray[np.float32]:
        """[texts, layers, width], of prompts with their answers: the mean over the answer's tokens of their states,
        each normalised as the last layer's are."""
        lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in texts])
        ids = torch.full((len(texts), int(lengths.max())), self._pad)
        for row, (prompt, answer) in enumerate(texts):
            ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        begins = torch.tensor([len(prompt) for prompt, _ in texts])
        answer_at = answers(mask, begins).to(self._device)[:, :, None]
        kept: dict[int, Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(_: Any, __: Any, output: Any) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                normal = self._norm(hidden) if self._norm else hidden
                kept[layer] = (normal.float() * answer_at).sum(dim=1) / answer_at.sum(dim=1)

            return hook

        hooks = [self._blocks[layer - 1].register_forward_hook(keep(layer)) for layer in self._layers]
        try:
            self._model.base_model(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
            )
        finally:
            for hook in hooks:
                hook.remove()
        found: NDArray[np.float32] = torch.stack([kept[layer] for layer in self._layers], dim=1).cpu().numpy()
        return found


def last_norm(model: Any) -> nn.Module | None:
    """What is applied to the last layer's output: the module of the trunk whose output is the trunk's. None where
    there is no such module."""
    trunk = model.base_model
    outputs: dict[nn.Module, Any] = {}
    hooks = [
        module.register_forward_hook(lambda m, _, output: outputs.__setitem__(m, output))
        for module in trunk.children()
        if not isinstance(module, nn.ModuleList)
    ]
    try:
        with torch.inference_mode():
            ids = torch.tensor([[1, 2, 3]], device=model.device)  # a padding token's state may be all zeros
            last = trunk(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    same = [m for m, out in outputs.items() if isinstance(out, Tensor) and out.shape == last.shape]
    return next((m for m in reversed(same) if torch.equal(outputs[m], last)), None)


# --- fitting ---------------------------------------------------------------------------------------------------------


def choose(pairs: States, ridges: Sequence[float], folds: int, seed: int) -> Head:
    """The head of the layer and the ridge whose cross-entropy is lowest on prompts that it was not fitted to, fitted to
    all pairs. Raises UserError where the pairs have fewer openings than two folds."""
    parts = fold_of(pairs.openings, folds, seed)
    if len(set(parts.tolist())) < 2:
        raise UserError(
            f"the {len(parts)} training pairs are of {len(set(pairs.openings))} openings, too few to choose a layer by "
            "cross-validation; add prompts, or take method reward"
        )
    best: tuple[float, float, int, float] | None = None
    for layer in pairs.layers:
        chosen, rejected = pairs.of(layer)
        margins = np.zeros((len(ridges), len(parts)))
        for part in sorted(set(parts.tolist())):
            inside = parts == part
            weights = fit((chosen - rejected)[~inside], pairs.p[~inside], ridges)
            margins[:, inside] = weights @ (chosen - rejected)[inside].T
        for ridge, values in zip(ridges, margins, strict=True):
            found = calibrate(values.tolist(), pairs.p.tolist())
            entry = (found.cross_entropy, found.accuracy or 0.0, layer, float(ridge))
            best = min(best, entry) if best else entry
    assert best is not None
    loss, accuracy, layer, ridge = best
    chosen, rejected = pairs.of(layer)
    (weight,) = fit(chosen - rejected, pairs.p, [ridge])
    seen = calibrate(((chosen - rejected) @ weight).tolist(), pairs.p.tolist())
    metrics = {
        "layer": layer, "ridge": ridge, "cv_loss": loss, "cv_accuracy": accuracy, "loss": seen.cross_entropy,
        "rewards/accuracies": seen.accuracy,
    }  # fmt: skip
    return Head(layer, weight, metrics)


def fold_of(openings: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Of each pair the part that it is in; pairs that open alike are in one."""
    return np.asarray([seed_of("fold", seed, opening) % folds for opening in openings])


def fit(differences: Floats, p: Floats, ridges: Sequence[float]) -> Floats:
    """[ridges, width]: heads on [pairs, width] differences of states with the targets p. Each is the one lowest point
    of a convex function; each begins where the last ended."""
    from scipy.optimize import minimize

    scale = np.sqrt(np.mean(differences**2, axis=0)) + 1e-12
    x = differences / scale
    found, start = np.zeros((len(ridges), x.shape[1])), np.zeros(x.shape[1])
    for at in sorted(range(len(ridges)), key=lambda at: -ridges[at]):
        ridge = ridges[at]

        def loss(w: Floats, ridge: float = ridge) -> tuple[float, Floats]:
            margin = x @ w
            value = np.mean(np.logaddexp(0, margin) - p * margin) + ridge * (w @ w) / 2
            slope = x.T @ (1 / (1 + np.exp(-np.clip(margin, -500, 500))) - p) / len(p) + ridge * w
            return float(value), slope

        start = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
        found[at] = start / scale
    return found


# --- what is made of it ----------------------------------------------------------------------------------------------


def cut(model: Any, head: Head) -> None:
    """End a classifier at the head's layer, and give it the head, to be read over the answer."""
    setattr(model.config, KEY, ANSWER)
    blocks, config = blocks_of(model), model.config.get_text_config()
    del blocks[head.layer :]
    config.num_hidden_layers = head.layer
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = list(kinds)[: head.layer]
    (score,) = (module for name, module in model.named_modules() if name.split(".")[-1] == "score")
    with torch.no_grad():
        score.weight.copy_(torch.from_numpy(head.weight)[None])


def spread(pairs: States, head: Head, count: int) -> dict[str, Any]:
    """What others need to use the rewards, over the first `count` pairs: see `pipeline.trainers.reward`."""
    rewards = np.concatenate([side[:count] for side in head.rewards(pairs)])
    lengths = np.concatenate([pairs.lengths[:count, 0], pairs.lengths[:count, 1]])
    mean, std = float(rewards.mean()), float(rewards.std(ddof=1))
    scaled = ((rewards - mean) / (std or 1.0)).tolist()
    return {
        "reward_mean": mean, "reward_std": std, "members": [{"mean": mean, "std": std}],
        "length_slope": slope(lengths.tolist(), scaled), "length_mean": float(lengths.mean()),
    }  # fmt: skip


def evaluate(held: States, head: Head, path: Path) -> dict[str, Any]:
    """As `soft_targets.evaluate_pairs` says it, of method `reward`."""
    chosen, rejected = head.rewards(held)
    margins, targets = (chosen - rejected).tolist(), held.p.tolist()
    names = ("line", "p", "margin", "chosen", "rejected")
    rows = zip(held.lines, targets, margins, chosen.tolist(), rejected.tolist(), strict=True)
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows), encoding="ascii")
    figures, temperature = calibrate(margins, targets), fit_temperature(margins, targets)
    return {
        "temperature": temperature,
        "eval_ece_calibrated": calibrate([m / temperature for m in margins], targets).ece,
        "eval_pairs": figures.pairs, "eval_accuracy": figures.accuracy, "eval_loss": figures.cross_entropy,
        "eval_ece": figures.ece, "eval_reliability": figures.bins, "eval_margin": float(np.mean(margins)),
        "eval_chosen_reward": float(np.mean(chosen)),
    }  # fmt: skip
