"""Supervised fine-tuning: the likelihood of an answer after its prompt. The prompt itself is never trained on.

TRL's SFTTrainer as it is, on prompt-completion rows: the loss is the mean over the answers' tokens (the end of the
turn included) of the whole effective batch, so it is the same however the batch is cut.
"""

from __future__ import annotations

from typing import Any

from pipeline.models.checkpoint import Kind
from pipeline.trainers.arguments import HELDOUT_READS, SFT_READS
from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Progress

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt", "completion")
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 2e-5}
READS = SFT_READS | HELDOUT_READS


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics: `loss` (mean of the last steps), `mean_token_accuracy`, and `eval_loss` over the held-out rows' answers'
    tokens where there are any.

    Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from pipeline.trainers import fitting
    from pipeline.trainers.material import Material

    class Trainer(fitting.TrainerMixin, SFTTrainer):  # type: ignore[misc]
        def filler(self, row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "length": 0, "labels": [-100] * len(row["labels"])}

    given = Material.of(job, COLUMNS)

    def build(batch_size: int) -> Trainer:
        return Trainer(
            model=fitting.load_model(job, AutoModelForCausalLM),
            args=fitting.configure(job, SFTConfig, batch_size, given.limit, completion_only_loss=True),
            **given.options(job, "CAUSAL_LM"),
        )

    trainer, metrics = fitting.fit(job, progress, build)
    metrics |= given.counted
    if given.heldout:
        metrics |= {"eval_loss": _heldout_loss(trainer), "eval_rows": len(given.heldout.table)}
    fitting.save(job, trainer)
    return metrics


def _heldout_loss(trainer: Any) -> float:
    """The mean over all held-out answers' tokens, in nats: TRL's would be a mean of batches' means."""
    import torch

    from pipeline.trainers.rows import like_lengths

    table = trainer.eval_dataset
    total, tokens = 0.0, 0
    trainer.model.eval()
    for part in like_lengths(table, trainer.args.per_device_eval_batch_size):
        batch = trainer._prepare_inputs(trainer.data_collator([table[row] for row in part]))
        with torch.no_grad(), trainer.compute_loss_context_manager():
            outputs = trainer.model(**batch, use_cache=False, fused_lm_head=True)
        total -= outputs.log_probs.sum().item()
        tokens += int(outputs.label_mask.sum())
    return total / tokens
