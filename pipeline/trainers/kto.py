"""Kahneman-Tversky optimisation (arXiv 2402.01306): single answers, each good or bad, by TRL's KTOTrainer.

With r = log pi(y|x) - log ref(y|x), z0 the KL of the policy from its reference, and weights w of good and bad,

    loss = w_good * (1 - sigmoid(beta * (r - z0)))  or  w_bad * (1 - sigmoid(beta * (z0 - r)))     (equation 7)

z0 is no constant: it is max(0, mean of log pi(y'|x) - log ref(y'|x)) over a micro-batch whose answers were moved on by
one row, without a gradient. So KTO is the one method whose loss depends on the micro-batch and not only on the
effective batch: 8 x 1 is not 4 x 2 accumulated, two processes share one z0, and one row alone, whose y' would be its
own answer, is refused. Every prompt is paired with its y' before training, as TRL does it. Micro-batches therefore
hold the same rows in every epoch; rows are shuffled once, by the seed, and not grouped by length, or z0 would be one of
like lengths.

The reference is the parent: its log-probabilities are computed once, before the first step (see `dpo`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from constitution.errors import UserError
from pipeline.models.checkpoint import Kind
from pipeline.trainers import processes
from pipeline.trainers.arguments import HELDOUT_READS, ROWS_READ
from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Progress

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt", "completion", "label")
COEFFICIENT = "beta"
DEFAULTS: dict[str, Any] = {
    **{name: value for name, value in COMMON_DEFAULTS.items() if name != "train_sampling_strategy"},
    "learning_rate": 1e-6,
    "beta": 0.1,
    "desirable_weight": None,  # None: by `balance`
    "undesirable_weight": None,
}
READS = (
    (ROWS_READ - {"train_sampling_strategy"})
    | HELDOUT_READS
    | {
        *("beta", "desirable_weight", "undesirable_weight", "disable_dropout", "precompute_ref_batch_size"),
        *("pad_to_multiple_of", "router_aux_loss_coef"),
    }
)

RATIO = (1.0, 4 / 3)  # the weights of all good rows together to those of all bad ones: equation 8

log = logging.getLogger(__name__)


def check(arguments: Mapping[str, Any]) -> None:
    """Raises UserError for a micro-batch that has no other row."""
    if arguments["per_device_train_batch_size"] < 2:
        raise UserError(
            "arguments: per_device_train_batch_size is 1; kto estimates the KL from the other rows of a micro-batch "
            "and needs at least 2 (8 or more are better): lower gradient_accumulation_steps instead"
        )


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics: `loss`, `kl` (z0, in nats) and TRL's `rewards/...`, means over the last steps, where a reward is
    beta * (log pi - log ref); `good` and `bad`, the rows of each, and their weights; held-out rows as `eval_...`.

    Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from trl import KTOConfig, KTOTrainer

    from pipeline.trainers import fitting
    from pipeline.trainers.material import Material
    from pipeline.trainers.pairs import answer_logprobs

    class Trainer(fitting.TrainerMixin, KTOTrainer):  # type: ignore[misc]
        """TRL's, with the numbers that need no gradient computed as our DPO does: on a CPU TRL's fused head works
        through the prompts' places, too. TRL hands them on in a temporary file, which other processes do not find."""

        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, *_: Any, **__: Any) -> Any:
            """The rows as `rows` has tokenised them, by the engine's path, each with its y'."""
            return dataset.map(_moved_on, batched=True, batch_size=args.per_device_train_batch_size)

        @torch.no_grad()
        def _compute_kl_logps(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            names = ("input_ids", "attention_mask", "completion_mask")
            return answer_logprobs(model, {name: batch[f"KL_{name}"] for name in names})

        @torch.no_grad()
        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            adapter_off = self.model.disable_adapter if job.lora else contextlib.nullcontext

            def compute(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
                with adapter_off():
                    return answer_logprobs(self.model, batch), self._compute_kl_logps(self.model, batch)

            return self.add_numbers(dataset, ("ref_logps", "ref_KL_logps"), batch_size, compute)

    given = Material.of(job, COLUMNS)
    rows = given.rows.table
    good = sum(rows["label"])
    bad = len(rows) - good
    if not good or not bad:
        raise UserError(
            f"{job.dataset}: all {good or bad} rows are {'good' if good else 'bad'}; kto learns from both: add "
            f"{'bad' if good else 'good'} answers"
        )
    weights = balance(good, bad, job.arguments["desirable_weight"], job.arguments["undesirable_weight"])
    chosen = {"desirable_weight": weights[0], "undesirable_weight": weights[1]}
    log.warning(
        "%s: %d good rows of weight %.4g, %d bad rows of weight %.4g", job.dataset, good, weights[0], bad, weights[1]
    )
    job = dataclasses.replace(job, arguments={**job.arguments, **chosen})
    table = rows.shuffle(seed=job.seed)

    def build(batch_size: int) -> Trainer:
        if batch_size < 2:
            raise UserError("out of memory with two rows a device, and kto cannot do with one; use LoRA or bfloat16")
        fixed = {"precompute_ref_log_probs": True, "train_sampling_strategy": "sequential", "loss_type": "kto"}
        taken = table.select(range(len(table) - _left_alone(len(table), batch_size)))
        return Trainer(
            model=fitting.load_model(job, AutoModelForCausalLM),
            args=fitting.configure(job, KTOConfig, batch_size, given.limit, **fixed),
            **{**given.options(job, "CAUSAL_LM"), "train_dataset": taken},
        )

    trainer, metrics = fitting.fit(job, progress, build)
    metrics |= {**given.counted, "good": good, "bad": bad, **chosen}
    fitting.save(job, trainer)
    if given.heldout:
        wanted = ("eval_loss", "eval_kl", "eval_rewards/chosen", "eval_rewards/rejected", "eval_rewards/margins")
        evaluation = trainer.evaluate()
        metrics |= {name: evaluation[name] for name in wanted if name in evaluation}
        metrics["eval_rows"] = len(given.heldout.table)
    return metrics


def _moved_on(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """y' of a micro-batch's rows: the answer of the row before."""
    answers = rows["completion_ids"]
    return {"KL_completion_ids": [answers[-1], *answers[:-1]]}


def _left_alone(rows: int, batch_size: int) -> int:
    """Rows at the end that no batch can have: one alone would be its own y'; several processes take whole batches."""
    count = processes.current().count
    rest = rows % (batch_size * count)
    return rest if rest == 1 or count > 1 else 0


def balance(good: int, bad: int, desirable: float | None, undesirable: float | None) -> tuple[float, float]:
    """The weights of good and bad rows. One that is not set is chosen so that the ratio of their sums comes to lie in
    RATIO, as near as can be to where it was; where neither is set, the rarer kind is raised and the other stays at 1.
    """
    ratio = (desirable or 1.0) * good / ((undesirable or 1.0) * bad)
    factor = min(max(ratio, RATIO[0]), RATIO[1]) / ratio
    if desirable is None and undesirable is None:
        return max(factor, 1.0), max(1 / factor, 1.0)
    if desirable is None:
        return factor, undesirable or 1.0
    return desirable, 1 / factor if undesirable is None else undesirable
