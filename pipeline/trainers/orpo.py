"""Odds-ratio preference optimisation: imitates the chosen answer and prefers it to the rejected one, in one loss and
without a reference (see `odds_ratio` for the loss, and for why it is not TRL's).

It is fine-tuning and preference training at once, so it starts well from a model that has had neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Kind, Watch

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
LEASH = "beta"
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 5e-6, "beta": 0.1}  # above dpo's: it fine-tunes, too


def train(job: Job, watch: Watch) -> dict[str, Any]:
    """Metrics, means over the last steps: `loss`, `nll` of the chosen answers in nats a token, `rewards/margins` the
    log of the odds ratio, and `rewards/chosen`, `rewards/rejected` beta * the mean log-probability of a token;
    held-out pairs as `eval_...`, where the log of the odds ratio is what is held against the labels.

    Writes `heldout.jsonl`. Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig

    from pipeline.trainers import fitting
    from pipeline.trainers.odds_ratio import SoftORPOTrainer
    from pipeline.trainers.rows import load_rows
    from pipeline.trainers.soft_targets import evaluate_pairs

    tokenizer = fitting.load_tokenizer(job)
    limit = fitting.context_length(job, tokenizer)
    rows = load_rows(Path(job.dataset), COLUMNS, tokenizer, job, limit)
    heldout = load_rows(Path(job.eval_dataset), COLUMNS, tokenizer, job, limit) if job.eval_dataset else None

    def build(batch_size: int) -> SoftORPOTrainer:
        return SoftORPOTrainer(
            model=fitting.load_model(job, AutoModelForCausalLM),
            args=fitting.configure(job, DPOConfig, batch_size, limit, precompute_ref_log_probs=True),
            train_dataset=rows.table,
            eval_dataset=heldout.table if heldout else None,
            processing_class=tokenizer,
            peft_config=fitting.lora_config(job, "CAUSAL_LM"),
        )

    trainer, metrics = fitting.fit(job, watch, build)
    metrics |= {"rows": len(rows.table), "left_out": rows.left_out}
    fitting.save(job, trainer)
    if heldout:
        metrics |= evaluate_pairs(trainer, job.partial / "heldout.jsonl")
    return metrics
