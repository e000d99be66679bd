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

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from trl import DPOTrainer, RewardTrainer

from pipeline.trainers.calibration import calibrate
from pipeline.trainers.fitting import TrainerMixin


def soft_cross_entropy(logits: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Of pairs: [pairs] logits and targets to [pairs] losses, in nats."""
    return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))


def answer_logprobs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """[rows] sums of the log-probabilities of the answers' tokens, for [rows, tokens] `input_ids`, `attention_mask`
    and `completion_mask`. The model is one that a DPOTrainer has prepared.

    On a GPU by TRL's fused head, which never holds the logits of a large vocabulary. On a CPU that head works through
    the prompts' positions too; leaving those out makes a step of a small model 1.7 times as fast.
    """
    ids, answer = inputs["input_ids"], inputs["completion_mask"].bool()
    options: dict[str, Any] = {"input_ids": ids, "attention_mask": inputs["attention_mask"], "use_cache": False}
    labels = ids.masked_fill(~answer, -100)
    if ids.is_cuda:
        return model(**options, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)  # type: ignore[no-any-return]
    first = max(1, int(answer.any(dim=0).int().argmax()))  # the first position that is an answer's in any row
    logits = model(**options, logits_to_keep=ids.shape[1] - first + 1).logits[:, :-1].float()
    return -F.cross_entropy(logits.transpose(1, 2), labels[:, first:], reduction="none").sum(dim=1)


class _WithTargets:
    """TRL's collator, and the pairs' p beside what it makes."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.collate(examples), "p": torch.tensor([float(example["p"]) for example in examples])}


class SoftTargets(TrainerMixin):
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

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        logits, seen = self.logits(model, inputs)
        loss = soft_cross_entropy(logits, inputs["p"]).mean()
        metrics = self._metrics["train" if model.training else "eval"]  # type: ignore[attr-defined]
        for name, values in seen.items():
            metrics[name].append(values.detach().float().mean().item())
        return (loss, {"logits": logits}) if return_outputs else loss


class SoftDPOTrainer(SoftTargets, DPOTrainer):  # type: ignore[misc]
    """Needs `precompute_ref_log_probs=True`: the reference is the parent as it was, or the adapter switched off."""

    def logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        chosen, rejected = answer_logprobs(model, inputs).chunk(2)  # the batch is [chosen, rejected]
        chosen = chosen - inputs["ref_chosen_logps"]
        rejected = rejected - inputs["ref_rejected_logps"]
        logits = self.beta * (chosen - rejected)
        return logits, {
            "rewards/chosen": self.beta * chosen,
            "rewards/rejected": self.beta * rejected,
            "rewards/margins": logits,
            "rewards/accuracies": (logits > 0).float(),
        }


class SoftRewardTrainer(SoftTargets, RewardTrainer):  # type: ignore[misc]
    def logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        chosen, rejected = outputs.logits.squeeze(-1).float().chunk(2)  # the batch is [chosen, rejected]
        logits = chosen - rejected
        return logits, {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": logits,
            "rewards/accuracies": (logits > 0).float(),
        }


@torch.no_grad()
def score_pairs(trainer: Any, table: Any) -> dict[str, list[float]]:
    """What `logits` shows of every pair of a prepared data set, in its order, by name without "rewards/"."""
    trainer.model.eval()
    size = trainer.args.per_device_eval_batch_size
    order = sorted(range(len(table)), key=table["length"].__getitem__)  # like lengths together: less padding
    scores: dict[str, list[float]] = {}
    for start in range(0, len(order), size):
        batch = trainer.data_collator([table[index] for index in order[start : start + size]])
        with trainer.compute_loss_context_manager():
            _, seen = trainer.logits(trainer.model, trainer._prepare_inputs(batch))
        for name, values in seen.items():
            scores.setdefault(name.removeprefix("rewards/"), [0.0] * len(order))
            for index, value in zip(order[start:], values.float().tolist(), strict=False):
                scores[name.removeprefix("rewards/")][index] = value
    return scores


def evaluate_pairs(trainer: Any, path: Path) -> dict[str, Any]:
    """Score the held-out pairs, write one line for each to `path`, and return their figures with `eval_` before them.

    A line: `line` of the pair in its file, `p`, `margin`, and the rewards `chosen` and `rejected`.
    """
    table = trainer.eval_dataset
    scores = score_pairs(trainer, table)
    columns = (table["line"], table["p"], scores["margins"], scores["chosen"], scores["rejected"])
    with path.open("w", encoding="ascii") as file:
        for values in zip(*columns, strict=True):
            row = dict(zip(("line", "p", "margin", "chosen", "rejected"), values, strict=True))
            file.write(json.dumps(row) + "\n")
    figures = calibrate(scores["margins"], list(table["p"]))
    return {
        "eval_pairs": figures.pairs,
        "eval_accuracy": figures.accuracy,
        "eval_loss": figures.cross_entropy,
        "eval_ece": figures.ece,
        "eval_reliability": figures.bins,
        "eval_margin": sum(scores["margins"]) / figures.pairs,
        "eval_chosen_reward": sum(scores["chosen"]) / figures.pairs,
    }


def reward_spread(trainer: Any, pairs: int) -> dict[str, float]:
    """Mean and standard deviation of the rewards of both answers of the first `pairs` training pairs."""
    table = trainer.train_dataset.select(range(min(pairs, len(trainer.train_dataset))))
    scores = score_pairs(trainer, table)
    rewards = torch.tensor(scores["chosen"] + scores["rejected"], dtype=torch.float64)
    return {"reward_mean": rewards.mean().item(), "reward_std": rewards.std().item()}
