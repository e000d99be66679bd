"""Prompts in, the policy's answers out (CAI section 3.1: sampled at temperature 1 from a helpful-only assistant)."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Prompt
from pipeline.asking import Ask, Role, ask


def respond(prompts: Sequence[Prompt], policy: Role, *, seed: int, samples: int = 1) -> list[Ask]:
    """A plan of `samples` answers to each prompt, in the order of the prompts."""
    return [
        ask("response", policy, prompt.messages, prompt=prompt.id, seed=seed, sample=sample)
        for prompt in prompts
        for sample in range(samples)
    ]
