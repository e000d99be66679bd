"""Direct preference optimisation with a soft target for every pair (see `soft_targets` for the loss).

The reference is the parent: its log-probabilities are computed once, before the first step, and no second model is
kept. A parent that is a LoRA folder is merged first, so that the reference of a new adapter is that parent.
"""

from __future__ import annotations

from typing import Any

from pipeline.models.checkpoint import Kind
from pipeline.trainers.arguments import PAIRS_READ
from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Watch

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
COEFFICIENT = "beta"
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 1e-6, "beta": 0.1}
READS = PAIRS_READ | {"beta", "precompute_ref_batch_size"}


def train(job: Job, watch: Watch) -> dict[str, Any]:
    """Metrics: `loss` and TRL's `rewards/...`, means over the last steps, where a reward is beta * (log pi - log ref);
    `chosen_logratio`, the mean of log pi - log ref over chosen answers then, in nats; held-out pairs as `eval_...`.

    Writes `heldout.jsonl`. Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from pipeline.trainers.soft_targets import SoftDPOTrainer, learn_from_pairs

    metrics = learn_from_pairs(job, watch, SoftDPOTrainer, COLUMNS)
    return metrics | {"chosen_logratio": metrics["rewards/chosen"] / job.arguments["beta"]}
