"""Group-relative policy optimisation (arXiv 2402.03300, section 4.1), by TRL's GRPOTrainer: see `online`.

To each prompt `num_generations` answers are sampled, and within such a group

    advantage(y_i) = (reward(y_i) - mean) / (standard deviation + 1e-4)

for every token of y_i. The loss is the clipped ratio's, token by token, with beta times the KL to the reference added
to it (not, as in PPO and RLOO, taken from the reward): ratio * (ref/pi - log(ref/pi) - 1), never negative. Tokens are
averaged within an answer, answers within the update (equations 3 and 4).

Of TRL's settings two go back to the paper: `beta` 0.04 (TRL 0: no KL) and `loss_type` "grpo" (TRL "dapo", which
weighs answers by their length). One stays TRL's: the ratio before the KL, `use_bias_correction_kl` (arXiv 2512.02556).
At sampling it is 1 and the KL is the paper's, but only with it is the gradient that of the KL.
"dr_grpo" with `scale_rewards` "none" is Dr. GRPO (arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constitution.errors import UserError
from pipeline.models.checkpoint import Kind
from pipeline.trainers import rloo
from pipeline.trainers.trainer import Job, Progress

KIND: Kind = "policy"
COLUMNS: tuple[str, ...] = ("prompt",)
ONLINE = True
COEFFICIENT = "beta"
DEFAULTS: dict[str, Any] = {
    **rloo.DEFAULTS,
    "num_generations": 8,  # the paper has 64
    "beta": 0.04,  # of the KL a token
    "loss_type": "grpo",
    "scale_rewards": "group",
    "epsilon": 0.2,
    "num_iterations": 1,
    "use_bias_correction_kl": True,
}
READS = rloo.GROUPS_READ | {
    *("loss_type", "scale_rewards", "use_bias_correction_kl", "delta", "importance_sampling_level"),
    *("sapo_temperature_neg", "sapo_temperature_pos", "off_policy_mask_threshold", "top_entropy_quantile"),
    *("vespo_k_pos", "vespo_k_neg", "vespo_lambda_pos", "vespo_lambda_neg"),
    *("entropy_coef", "use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta"),
    "entropy_target",
}


def check(arguments: Mapping[str, Any]) -> None:
    """Raises UserError for an update whose answers are no whole groups, and for a loss that cannot be had so."""
    rloo.check(arguments)
    loss, level = arguments["loss_type"], arguments.get("importance_sampling_level", "token")
    if (loss == "luspo" and level != "sequence") or (loss == "vespo" and level != "token"):
        needed = "sequence" if loss == "luspo" else "token"
        raise UserError(f"arguments: loss_type {loss} asks for importance_sampling_level = {needed!r}")


def train(job: Job, progress: Progress) -> dict[str, Any]:
    """Metrics as RLOO's; `kl` is here GRPO's own estimate, in nats a sequence.

    Raises UserError, TrainingStopped or KeyboardInterrupt.
    """
    from trl import GRPOConfig, GRPOTrainer

    from pipeline.trainers import online

    class Trainer(online.Online, GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
            return self.answers(), None  # None: log-probabilities as vLLM would have them

    return online.learn(job, progress, Trainer, GRPOConfig)
