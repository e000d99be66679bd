"""Direct preference optimisation with a soft target for every pair (see `soft_targets` for the loss).

The reference is the parent: its log-probabilities are computed once, before the first step, and no second model is
kept. A parent that is a LoRA folder is merged first, so that the reference of a new adapter is that parent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Kind, Watch

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
LEASH = "beta"
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 1e-6, "beta": 0.1}


def train(job: Job, watch: Watch) -> dict[str, Any]:
    """Metrics: `loss` and TRL's `rewards/...`, means over the last steps, where a reward is beta * (log pi - log ref);
    `chosen_logratio`, the mean of log pi - log ref over chosen answers then, in nats; held-out pairs as `eval_...`.

    Writes `heldout.jsonl`. Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig

    from pipeline.trainers import fitting
    from pipeline.trainers.rows import load_rows
    from pipeline.trainers.soft_targets import SoftDPOTrainer, evaluate_pairs

    tokenizer = fitting.load_tokenizer(job)
    limit = fitting.context_length(job, tokenizer)
    rows = load_rows(Path(job.dataset), COLUMNS, tokenizer, job, limit)
    heldout = load_rows(Path(job.eval_dataset), COLUMNS, tokenizer, job, limit) if job.eval_dataset else None

    def build(batch_size: int) -> SoftDPOTrainer:
        return SoftDPOTrainer(
            model=fitting.load_model(job, AutoModelForCausalLM),
            args=fitting.configure(job, DPOConfig, batch_size, limit, precompute_ref_log_probs=True),
            train_dataset=rows.table,
            eval_dataset=heldout.table if heldout else None,
            processing_class=tokenizer,
            peft_config=fitting.lora_config(job, "CAUSAL_LM"),
        )

    trainer, metrics = fitting.fit(job, watch, build)
    metrics |= {"rows": len(rows.table), "left_out": rows.left_out}
    metrics["chosen_logratio"] = metrics["rewards/chosen"] / job.arguments["beta"]
    fitting.save(job, trainer)
    if heldout:
        metrics |= evaluate_pairs(trainer, job.partial / "heldout.jsonl")
    return metrics
