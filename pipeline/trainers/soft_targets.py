"""TRL's DPO and reward trainers with a probability for every pair where TRL has a hard choice.

Both losses are one: the cross-entropy of a logit x against p, the probability that `chosen` is the better,

    loss = -[p log sigmoid(x) + (1 - p) log sigmoid(-x)]

with x = beta * ((log pi - log ref)(chosen) - (log pi - log ref)(rejected)) for DPO (arXiv 2305.18290, equation 7, with
soft targets) and x = r(chosen) - r(rejected) for a Bradley-Terry reward model (arXiv 2212.08073, section 4). At p = 1
they are TRL's own losses; TRL has no per-pair target for either. Left out of what TRL does: its other DPO losses, and
the load-balancing loss of mixture-of-experts models.

This module imports TRL: import it inside `train`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, RewardTrainer

from pipeline.engines import tree
from pipeline.rewards import reading
from pipeline.trainers import fitting, processes
from pipeline.trainers.calibration import calibrate, fit_temperature, slope
from pipeline.trainers.material import Material
from pipeline.trainers.pairs import answer_logprobs, pack, packed_logprobs
from pipeline.trainers.rows import like_lengths
from pipeline.trainers.trainer import Job, Progress


def soft_cross_entropy(logits: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Of pairs: [pairs] logits and targets to [pairs] losses, in nats."""
    return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))


class _WithTargets:
    """TRL's collator, and the pairs' p beside what it makes; their `weights` for each head, where they have any; and
    where both answers begin, where that is wanted."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate, self.begins = collate, False

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {**self.collate(examples), "p": torch.tensor([float(example["p"]) for example in examples])}
        if "weights" in examples[0]:
            batch["weights"] = torch.tensor([example["weights"] for example in examples], dtype=torch.float32)
        if self.begins:
            batch["begins"] = torch.tensor([len(example["prompt_ids"]) for example in examples])
        return batch


class SoftTargets(fitting.TrainerMixin):
    """Mixed into a TRL trainer of pairs: its loss becomes `soft_cross_entropy` of what `logits` returns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.data_collator = _WithTargets(self.data_collator)  # type: ignore[has-type]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if "p" not in self._signature_columns:  # type: ignore[attr-defined]
            self._signature_columns.append("p")  # type: ignore[attr-defined]

    def logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """[pairs] logits, and what is to be logged of each pair."""
        raise NotImplementedError

    def losses(self, logits: torch.Tensor, p: torch.Tensor, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        """[pairs], in nats."""
        return soft_cross_entropy(logits, p)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits, seen = self.logits(model, inputs)
        real = inputs["p"] > 0  # see `filler`
        loss = self.losses(logits, inputs["p"], seen)[real].sum()
        if num_items_in_batch is None:
            loss = loss / real.sum()
        else:  # of the whole batch, whose parts' gradients are added up here and averaged over processes
            loss = loss * self.accelerator.num_processes / num_items_in_batch  # type: ignore[attr-defined]
        metrics = self._metrics["train" if model.training else "eval"]  # type: ignore[attr-defined]
        sums = torch.stack([real.sum().float(), *(values.detach().float()[real].sum() for values in seen.values())])
        count, *totals = self.accelerator.reduce(sums).tolist()  # type: ignore[attr-defined]
        if num_items_in_batch is not None:  # so that the mean over the parts is that over the pairs
            count = float(num_items_in_batch) / self.current_gradient_accumulation_steps  # type: ignore[attr-defined]
        for name, total in zip(seen, totals, strict=True):
            metrics[name].append(total / count)
        return (loss, {"logits": logits}) if return_outputs else loss

    loss_is_scaled_for_ga = True

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> Any:
        """Pairs in a batch of all processes: the loss is their mean, however the batch is cut."""
        pairs = sum((batch["p"] > 0).sum() for batch in batch_samples)
        return self.accelerator.reduce(torch.as_tensor(pairs, device=device))  # type: ignore[attr-defined]

    def filler(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "length": 0, "p": 0.0}  # no pair's own: p is at least a half


class _Packed:
    """A collator of packed pairs (see `pairs`), in place of TRL's for DPO."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = pack(examples, self.pad)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples])
        return batch


class SoftDPOTrainer(SoftTargets, DPOTrainer):  # type: ignore[misc]
    """Needs `precompute_ref_log_probs=True`: the reference is the parent as it was, or the adapter switched off."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # `rows` has tokenised it, by the engine's path

    def logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        chosen, rejected = self._logprobs(model, inputs).chunk(2)  # [chosen, rejected]
        chosen = chosen - inputs["ref_chosen_logps"]
        rejected = rejected - inputs["ref_rejected_logps"]
        logits = self.beta * (chosen - rejected)
        return logits, {
            "rewards/chosen": self.beta * chosen,
            "rewards/rejected": self.beta * rejected,
            "rewards/margins": logits,
            "rewards/accuracies": (logits > 0).float(),
        }

    def _logprobs(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return (packed_logprobs if "ends" in inputs else answer_logprobs)(model, inputs)

    @torch.no_grad()
    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """TRL's, which runs once at the end of its own __init__, for rows of like length and by all processes."""
        self.model.eval()
        self._pack_where_exact()

        def compute(batch: dict[str, torch.Tensor]) -> Sequence[torch.Tensor]:
            with self._reference():
                return self._logprobs(self.model, batch).chunk(2)

        return self.add_numbers(dataset, ("ref_chosen_logps", "ref_rejected_logps"), batch_size, compute)

    def _pack_where_exact(self) -> None:
        if not isinstance(self.data_collator, _Packed) and tree.is_exact(self.model)[0]:
            self.data_collator: Any = _Packed(self.processing_class.pad_token_id)

    def _reference(self) -> Any:
        return self.model.disable_adapter() if isinstance(self.model, PeftModel) else contextlib.nullcontext()


class SoftRewardTrainer(SoftTargets, RewardTrainer):  # type: ignore[misc]
    """One head, or k on a shared trunk: then the loss of a pair is the mean of its heads' losses, each times the
    pair's `weights` for it, and what is shown of a pair is the mean of the heads."""

    def __init__(self, model: Any, **options: Any) -> None:
        heads, model.config.num_labels = model.config.num_labels, 1  # TRL insists on one, and reads no more of it
        self._over_answer = reading.over_answer(model)
        super().__init__(model=model, **options)
        model.config.num_labels = heads
        self.data_collator.begins = self._over_answer

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weights" not in self._signature_columns:
            self._signature_columns.append("weights")
        if self._over_answer and "prompt_ids" not in self._signature_columns:
            self._signature_columns.append("prompt_ids")

    def rewards(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """[2 x pairs, heads]: the chosen answers' first, then the rejected ones'."""
        begins = inputs["begins"].repeat(2) if self._over_answer else None
        return reading.rewards(model, inputs["input_ids"], inputs["attention_mask"], begins).float()

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """A reward model reads an answer behind its prompt, as `rows` has tokenised both."""
        return dataset.map(_behind_prompts)

    def as_trained(self, row: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
        prompt = len(row["prompt_ids"])
        return row["chosen_ids"][:prompt], [row["chosen_ids"][prompt:], row["rejected_ids"][prompt:]]

    def logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        heads = self.rewards(model, inputs)
        chosen, rejected = (heads.squeeze(-1) if heads.shape[1] == 1 else heads.mean(dim=1)).chunk(2)
        logits = chosen - rejected
        seen = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": logits,
            "rewards/accuracies": (logits > 0).float(),
        }
        if "weights" in inputs:
            of_heads = torch.sub(*heads.chunk(2))
            losses = soft_cross_entropy(of_heads, inputs["p"][:, None].expand_as(of_heads))
            seen["heads_loss"] = (inputs["weights"] * losses).mean(dim=1)
        return logits, seen

    def losses(self, logits: torch.Tensor, p: torch.Tensor, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return seen["heads_loss"] if "heads_loss" in seen else super().losses(logits, p, seen)


def _behind_prompts(row: dict[str, Any]) -> dict[str, list[int]]:
    return {name: row["prompt_ids"] + row[name] for name in ("chosen_ids", "rejected_ids")}


@torch.no_grad()
def score_pairs(trainer: Any, table: Any) -> dict[str, list[float]]:
    """What `logits` shows of every pair of a prepared data set, in its order, by name without "rewards/"."""
    trainer.model.eval()
    scores: dict[str, list[float]] = {}
    for part in like_lengths(table, trainer.args.per_device_eval_batch_size):
        batch = trainer.data_collator([table[index] for index in part])
        with trainer.compute_loss_context_manager():
            _, seen = trainer.logits(trainer.model, trainer._prepare_inputs(batch))
        for name, values in seen.items():
            scores.setdefault(name.removeprefix("rewards/"), [0.0] * len(table))
            for index, value in zip(part, values.float().tolist(), strict=True):
                scores[name.removeprefix("rewards/")][index] = value
    return scores


def evaluate_pairs(trainer: Any, path: Path, *, temperature: bool = False) -> dict[str, Any]:
    """Score the held-out pairs, write one line for each to `path`, and return their figures with `eval_` before them.

    A line: `line` of the pair in its file, `p`, `margin`, and the rewards `chosen` and `rejected`. `temperature`: also
    fit one to the margins, and the ECE with it (of the same pairs, so a little flattered).
    """
    table = trainer.eval_dataset
    scores = score_pairs(trainer, table)
    columns = (table["line"], table["p"], scores["margins"], scores["chosen"], scores["rejected"])
    names = ("line", "p", "margin", "chosen", "rejected")
    lines = [json.dumps(dict(zip(names, values, strict=True))) + "\n" for values in zip(*columns, strict=True)]
    processes.current().once(lambda: path.write_text("".join(lines), encoding="ascii"))
    margins, targets = scores["margins"], list(table["p"])
    figures = calibrate(margins, targets)
    found: dict[str, Any] = {}
    if temperature:
        found["temperature"] = fit_temperature(margins, targets)
        found["eval_ece_calibrated"] = calibrate([m / found["temperature"] for m in margins], targets).ece
    return {
        **found,
        "eval_pairs": figures.pairs,
        "eval_accuracy": figures.accuracy,
        "eval_loss": figures.cross_entropy,
        "eval_ece": figures.ece,
        "eval_reliability": figures.bins,
        "eval_margin": sum(scores["margins"]) / figures.pairs,
        "eval_chosen_reward": sum(scores["chosen"]) / figures.pairs,
    }


@torch.no_grad()
def score_heads(trainer: SoftRewardTrainer, table: Any) -> torch.Tensor:
    """[2 x rows, heads] float64: the rewards of the chosen answers of a prepared data set, then of the rejected."""
    trainer.model.eval()
    rewards: list[list[float]] = [[]] * (2 * len(table))
    for some in like_lengths(table, trainer.args.per_device_eval_batch_size):
        batch = trainer.data_collator([table[index] for index in some])
        with trainer.compute_loss_context_manager():
            scores = trainer.rewards(trainer.model, trainer._prepare_inputs(batch))
        for row, values in zip([*some, *(index + len(table) for index in some)], scores.tolist(), strict=True):
            rewards[row] = values
    return torch.tensor(rewards, dtype=torch.float64)


def learn_from_pairs(
    job: Job, progress: Progress, trainer_class: type[SoftDPOTrainer], columns: Sequence[str]
) -> dict[str, Any]:
    """Train a policy on pairs by a subclass of SoftDPOTrainer. Saves it, and writes `heldout.jsonl` where there are
    held-out rows; returns the metrics. Raises UserError, TrainingStopped or KeyboardInterrupt."""
    given = Material.of(job, columns)

    def build(batch_size: int) -> SoftDPOTrainer:
        return trainer_class(
            model=fitting.load_model(job, AutoModelForCausalLM),
            args=fitting.configure(job, DPOConfig, batch_size, given.limit, precompute_ref_log_probs=True),
            **given.options(job, "CAUSAL_LM"),
        )

    trainer, metrics = fitting.fit(job, progress, build)
    metrics |= given.counted
    fitting.save(job, trainer)
    if given.heldout:
        metrics |= evaluate_pairs(trainer, job.partial / "heldout.jsonl")
    return metrics


def reward_spread(trainer: SoftRewardTrainer, rows: Any, pairs: int) -> dict[str, Any]:
    """What others need to use the rewards, over both answers of the first `pairs` training pairs, which are the first
    of `rows`: see `pipeline.trainers.reward`."""
    count = min(pairs, len(trainer.train_dataset))
    heads = score_heads(trainer, trainer.train_dataset.select(range(count)))
    mean_head = heads.mean(dim=1) if heads.shape[1] > 1 else heads.squeeze(1)
    means, stds = heads.mean(dim=0), heads.std(dim=0)
    combined = ((heads - means) / stds.where(stds > 0, 1.0)).mean(dim=1)
    texts = [*rows["chosen"][:count], *rows["rejected"][:count]]
    lengths = [sum(len(message["content"]) for message in answer) for answer in texts]
    return {
        "reward_mean": mean_head.mean().item(),
        "reward_std": mean_head.std().item(),
        "members": [{"mean": m, "std": s} for m, s in zip(means.tolist(), stds.tolist(), strict=True)],
        "length_slope": slope(lengths, combined.tolist()),
        "length_mean": sum(lengths) / len(lengths),
    }
