"""REINFORCE with the other answers as baseline (RLOO, arXiv 2402.14740), by TRL's RLOOTrainer: see `online`.

To each prompt `num_generations` answers are sampled. With R(y) = reward(y) - beta * (log pi(y) - log ref(y)), both
log-probabilities sums over the answer's tokens,

    advantage(y_i) = R(y_i) - mean of R(y_j), j other than i        loss = -mean of ratio(y_i) * advantage(y_i)

where the ratio, of the whole answer's probability to that at sampling, is 1 in value while `num_iterations` is 1, so
that the gradient is REINFORCE's; above that it is clipped by `epsilon`. An answer is one action: there is no critic.
The loss itself says nothing (in expectation it is 0 before each step): look at the reward and the KL.

An update is per_device_train_batch_size x gradient_accumulation_steps answers, and so many / num_generations prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constitution.errors import UserError
from pipeline.models.checkpoint import Kind
from pipeline.trainers.arguments import TRAINER_READS
from pipeline.trainers.trainer import ONLINE_DEFAULTS, Job, Progress

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt",)
ONLINE = True
COEFFICIENT = "beta"
DEFAULTS: dict[str, Any] = {
    **ONLINE_DEFAULTS,
    "num_generations": 4,  # the paper has 2 and 4
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-6,
    "beta": 0.05,  # reward units a nat
}
GROUPS_READ = TRAINER_READS | {  # of grpo, too
    *("max_completion_length", "temperature", "num_generations", "num_iterations", "beta", "epsilon", "epsilon_high"),
    *("mask_truncated_completions", "shuffle_dataset", "pad_to_multiple_of", "disable_dropout", "router_aux_loss_coef"),
}
READS = GROUPS_READ | {"normalize_advantages", "reward_clip_range"}


def check(arguments: Mapping[str, Any]) -> None:
    """Raises UserError for an update whose answers are not whole groups of several."""
    group = arguments["num_generations"]
    answers = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
    if group < 2:
        raise UserError(
            f"arguments: num_generations is {group!r}; answers to one prompt are compared: it must be 2 or more"
        )
    if answers % group:
        raise UserError(
            f"arguments: an update has {answers} answers (per_device_train_batch_size x gradient_accumulation_steps), "
            f"which num_generations {group} does not divide; make it a multiple of {group}"
        )


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics, means over the last updates: `reward` as the reward gave it, and `reward_std`; `kl` in nats a sequence,
    log pi - log ref of the sampled answers; `entropy` in nats a token; `length` in tokens; `ended`, `clipfrac` and
    `frac_reward_zero_std` (prompts whose answers were all rewarded alike), shares.

    Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from trl import RLOOConfig, RLOOTrainer

    from pipeline.trainers import online

    class Trainer(online.Online, RLOOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, *_: Any, **__: Any) -> list[list[int]]:
            return self.answers()

    return online.learn(job, progress, Trainer, RLOOConfig)
