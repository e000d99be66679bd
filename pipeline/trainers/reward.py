"""A Bradley-Terry reward model on soft targets (see `soft_targets` for the loss): a head, or k heads, on the parent.

The reward of a dialogue is read at its last token, so batches are padded on the right. Rewards mean something only
as differences; the mean and spread in the metrics are there for whoever adds them to anything else.

An ensemble is k heads on a shared trunk (argument `heads`), or separate models, which are jobs with other seeds, or
both; `pipeline.rewards.model` combines them. Heads that share a trunk and see the same rows end up as one: given the
trunk, the loss of a linear head has a single lowest point. So each head counts each row with a weight of its own, drawn
from Poisson(1) by a hash of (seed, line of the row, head): a bootstrap sample a head, as on-line bagging draws them
(Oza and Russell 2001), for the reason that Bootstrapped DQN has for its heads on a shared network (Osband et al. 2016,
arXiv 1602.04621). Separate models differ more, and cost k times as much. With one head there are no weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from constitution.errors import UserError
from constitution.records import seed_of
from pipeline.models.checkpoint import Kind
from pipeline.trainers.arguments import PAIRS_READ
from pipeline.trainers.trainer import COMMON_DEFAULTS, Job, Progress

KIND: Kind = "reward_model"
COLUMNS: tuple[str, ...] = ("prompt", "chosen", "rejected", "p")
# Beside these `heads`, 1 where it is not given: kept out, so that the ids of jobs without it stay what they were.
DEFAULTS: dict[str, Any] = {**COMMON_DEFAULTS, "learning_rate": 1e-5}
READS = PAIRS_READ | {"heads", "pad_to_multiple_of"}

NORMALISE = 500  # training pairs whose rewards are measured at the end: the reference set


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics: `loss` and `rewards/...`, means over the last steps; held-out pairs as `eval_...` (accuracy,
    cross-entropy, ECE, reliability), with the `temperature` that calibrates the margins and `eval_ece_calibrated`.

    And over both answers of the first NORMALISE training pairs: `reward_mean` and `reward_std` (of the heads' mean),
    `members` (the same of each head), `length_slope` of the normalised heads' mean on the answer's length in
    characters, and `length_mean`. What is said of a pair is said of the mean of the heads' raw rewards.

    Writes `heldout.jsonl`. Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig

    from pipeline.trainers import fitting
    from pipeline.trainers.material import Material
    from pipeline.trainers.soft_targets import SoftRewardTrainer, evaluate_pairs, reward_spread

    arguments = dict(job.arguments)
    heads = arguments.pop("heads", 1)
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
        raise UserError(f"arguments: heads is {heads!r}; it must be a whole number, 1 or more")
    job = dataclasses.replace(job, arguments=arguments)
    given = Material.of(job, COLUMNS)
    table = given.rows.table
    if heads > 1:
        table = table.add_column("weights", bootstrap_weights(job.seed, table["line"], heads))

    def build(batch_size: int) -> SoftRewardTrainer:
        return SoftRewardTrainer(
            model=fitting.load_model(job, AutoModelForSequenceClassification, num_labels=heads),
            args=fitting.configure(job, RewardConfig, batch_size, given.limit),
            **{**given.options(job, "SEQ_CLS"), "train_dataset": table},
        )

    trainer, metrics = fitting.fit(job, progress, build)
    metrics |= {**given.counted, **reward_spread(trainer, given.rows.table, NORMALISE)}
    fitting.save(job, trainer)
    if given.heldout:
        metrics |= evaluate_pairs(trainer, job.partial / "heldout.jsonl", temperature=True)
    return metrics


def bootstrap_weights(seed: int, lines: Sequence[int], heads: int) -> list[list[float]]:
    """[rows, heads]: how often each head sees each row, Poisson(1), whatever other rows there are."""
    import numpy as np
    from scipy.stats import poisson

    points = [[seed_of("bootstrap", seed, line, head) / 2**63 for head in range(heads)] for line in lines]
    weights: list[list[float]] = np.asarray(poisson.ppf(points, 1.0)).tolist()
    return weights
