"""Prompts in, the policy's answers out (CAI section 3.1: sampled at temperature 1 from a helpful-only assistant)."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Prompt
from constitution.streams import Stream, some
from pipeline.asking import Ask, Role, ask


def respond(prompts: Sequence[Prompt], policy: Role, *, seed: int, samples: int = 1) -> Sequence[Ask]:
    """A plan of `samples` answers to each prompt, in the order of the prompts."""

    def asks(places: Sequence[int]) -> list[Ask]:
        found = zip(places, some(prompts, [place // samples for place in places]), strict=True)
        return [
            ask("response", policy, prompt.messages, prompt=prompt.id, seed=seed, sample=place % samples)
            for place, prompt in found
        ]

    return Stream(range(len(prompts) * samples), asks)
