"""Odds-ratio preference optimisation: imitates the chosen answer and prefers it to the rejected one, in one loss and
without a reference (see `odds_ratio` for the loss, and for why it is not TRL's).

It is fine-tuning and preference training at once, so it starts well from a model that has had neither.
"""

from __future__ import annotations

from typing import Any

from pipeline.models.checkpoint import Kind
from pipeline.trainers.arguments import PAIRS_READ
from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Watch

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
COEFFICIENT = "beta"
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 5e-6, "beta": 0.1}  # above dpo's: it fine-tunes, too
READS = PAIRS_READ | {"beta"}


def train(job: Job, watch: Watch) -> dict[str, Any]:
    """Metrics, means over the last steps: `loss`, `nll` of the chosen answers in nats a token, `rewards/margins` the
    log of the odds ratio, and `rewards/chosen`, `rewards/rejected` beta * the mean log-probability of a token;
    held-out pairs as `eval_...`, where the log of the odds ratio is what is held against the labels.

    Writes `heldout.jsonl`. Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from pipeline.trainers.odds_ratio import SoftORPOTrainer
    from pipeline.trainers.soft_targets import learn_from_pairs

    return learn_from_pairs(job, watch, SoftORPOTrainer, COLUMNS)
