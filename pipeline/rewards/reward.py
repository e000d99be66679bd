"""The contract of a reward: prompts and answers as text in, a number for each out.

To add one, write `pipeline/rewards/x.py` with

    def check(options: Mapping[str, Any]) -> None: raises UserError for a mistake, loading nothing
    def fingerprint(options: Mapping[str, Any]) -> str: digest of what determines the numbers, loading nothing
    def build(options: Mapping[str, Any]) -> Reward

and settings then say `reward = {kind = "x", ...}`. Text is what every reward can read: a reward model with another
tokenizer, a Python function, an HTTP endpoint, a judge. Whoever uses one gets it inside `pipeline.rewards.checked`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

Dialogue = Sequence[Mapping[str, str]]  # messages as data sets have them: {"role", "content"}


@runtime_checkable
class Reward(Protocol):
    """Every call is batched. Rewards come back in the order of the answers, a finite number each; higher is better.

    What cannot be rewarded is a UserError that says why, never a made-up number. An attribute `name`, where there is
    one, is what messages call it.
    """

    @property
    def fingerprint(self) -> str:
        """Digest of what determines the numbers: part of the id of a job that is rewarded by it."""

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]: ...

    def close(self) -> None:
        """Free memory. The reward is not used again."""
