"""The odds-ratio loss of ORPO (arXiv 2403.07691, equations 4 to 7), with a probability for every pair.

With l = log P(y|x), the MEAN of an answer's token log-probabilities, and log odds = l - log(1 - exp(l)),

    loss = -l(chosen) + beta * -[p log sigmoid(x) + (1 - p) log sigmoid(-x)],  x = log odds(chosen) - log odds(rejected)

At p = 1 it is the paper's loss (its lambda is TRL's beta). p weighs the comparison only: what is imitated is `chosen`.

Not TRL's ORPOTrainer (experimental in 1.16), because its first term is taken over the prompt's tokens, too, where
equation 6 has the answer given the prompt; because after a template's last newline it appends a second end of turn to
every answer; and because it weighs rows by their length within a micro-batch, so that batches of other sizes differ.
Ours stands on the data path of our DPO, packed prompts and all, with no reference.

This module imports TRL: import it inside `train`.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.trainers.pairs import IGNORED
from pipeline.trainers.soft_targets import SoftDPOTrainer, soft_cross_entropy

SURE = -1e-6  # nats a token: at a probability of one the odds are infinite


def log_odds(logprobs: torch.Tensor) -> torch.Tensor:
    """log(P / (1 - P)) of log-probabilities, precise at both ends."""
    logprobs = logprobs.clamp(max=SURE)
    return logprobs - torch.log(-torch.expm1(logprobs))


class SoftORPOTrainer(SoftDPOTrainer):
    """Needs `precompute_ref_log_probs=True`, which keeps TRL from loading a reference; nothing is computed of it."""

    @torch.no_grad()
    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        self.model.eval()
        self._pack_where_exact()
        return dataset

    def logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        means = self._logprobs(model, inputs) / answer_tokens(inputs)
        chosen, rejected = means.chunk(2)  # [chosen, rejected]
        logits = log_odds(chosen) - log_odds(rejected)
        return logits, {
            "nll": -chosen,
            "rewards/chosen": self.beta * chosen,
            "rewards/rejected": self.beta * rejected,
            "rewards/margins": logits,
            "rewards/accuracies": (logits > 0).float(),
        }

    def losses(self, logits: torch.Tensor, p: torch.Tensor, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        compared: torch.Tensor = self.beta * soft_cross_entropy(logits, p)
        return seen["nll"] + compared


def answer_tokens(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """[2 x pairs] tokens of the answers, the chosen ones' first, in a batch of TRL's or of `pairs.pack`."""
    if "ends" not in inputs:
        return inputs["completion_mask"].sum(dim=1)
    answer, chosen = inputs["following"] != IGNORED, inputs["chosen"]
    return torch.cat([(answer & chosen).sum(dim=1), (answer & ~chosen).sum(dim=1)])
