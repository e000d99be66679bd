"""A Bradley-Terry reward model on soft targets (see `soft_targets` for the loss): a scalar head on the parent.

The reward of a dialogue is read at its last token, so batches are padded on the right. Rewards mean something only
as differences; `reward_mean` and `reward_std` are there for whoever adds them to anything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Kind, Watch

KIND: Kind = "reward_model"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 1e-5}

NORMALISE = 500  # training pairs whose rewards are measured at the end


def train(job: Job, watch: Watch) -> dict[str, Any]:
    """Metrics: `loss` and `rewards/...`, means over the last steps; `reward_mean` and `reward_std` over the answers
    of the first NORMALISE training pairs; held-out pairs as `eval_...` (accuracy, cross-entropy, ECE, reliability).

    Writes `heldout.jsonl`. Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig

    from pipeline.trainers import fitting
    from pipeline.trainers.rows import load_rows
    from pipeline.trainers.soft_targets import SoftRewardTrainer, evaluate_pairs, reward_spread

    tokenizer = fitting.load_tokenizer(job)
    limit = fitting.context_length(job, tokenizer)
    rows = load_rows(Path(job.dataset), COLUMNS, tokenizer, job, limit)
    heldout = load_rows(Path(job.eval_dataset), COLUMNS, tokenizer, job, limit) if job.eval_dataset else None

    def build(batch_size: int) -> SoftRewardTrainer:
        return SoftRewardTrainer(
            model=fitting.load_model(job, AutoModelForSequenceClassification, num_labels=1),
            args=fitting.configure(job, RewardConfig, batch_size, limit),
            train_dataset=rows.table,
            eval_dataset=heldout.table if heldout else None,
            processing_class=tokenizer,
            peft_config=fitting.lora_config(job, "SEQ_CLS"),
        )

    trainer, metrics = fitting.fit(job, watch, build)
    metrics |= {"rows": len(rows.table), "left_out": rows.left_out, **reward_spread(trainer, NORMALISE)}
    fitting.save(job, trainer)
    if heldout:
        metrics |= evaluate_pairs(trainer, job.partial / "heldout.jsonl")
    return metrics
