"""Reading what a model server answered: nothing in it is trusted to be there, finite, or of a sane length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from constitution.records import FinishReason
from pipeline.engines.engine import Choice, Completion, EngineError, Sampling

LETTERS_A_TOKEN = 64  # an answer longer than this a token was not held to max_tokens by its server
FINISHED: dict[Any, FinishReason] = {"stop": "stop", "length": "length"}


@contextmanager
def in_protocol(host: str) -> Iterator[None]:
    """Turns a missing key, a wrong type and the like into EngineError: what cannot be read is not an answer."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"the server at {host} answered with JSON that is not of the protocol ({type(error).__name__}); "
            "nothing of it was kept"
        ) from None


def completion(
    text: str,
    finish_reason: Any,
    sampling: Sampling,
    prompt_tokens: int,
    tokens: int,
    *,
    reasoning: str = "",
    thinking: bool = False,
) -> Completion:
    """A server that ignores `max_tokens` must not fill the store: what is far too long is cut, and marked as cut.

    `reasoning` is what the server kept apart by itself; `thinking` says that the prompt had opened a thinking block.
    Raises TypeError where the server sent no text.
    """
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise TypeError("text")
    reason = FINISHED.get(finish_reason, "other") if isinstance(finish_reason, str) else "other"
    most = LETTERS_A_TOKEN * sampling.max_tokens
    if len(text) + len(reasoning) > most:
        text, reasoning, reason = text[:most], reasoning[:most], "length"
    if not reasoning:
        reasoning, text = split_reasoning(text, thinking)
    return Completion(text, reason, prompt_tokens, tokens, reasoning)


def split_reasoning(text: str, thinking: bool) -> tuple[str, str]:
    """The thinking block and the answer after it. A block cut short leaves no answer."""
    if not thinking and not text.lstrip().startswith("<think>"):
        return "", text
    before, _, after = text.partition("</think>")
    return before.replace("<think>", "", 1).strip(), after.lstrip()


def choice_of(held: Sequence[float], prompt_tokens: int) -> Choice:
    """A choice from the probability that each label held of the whole vocabulary."""
    mass = math.fsum(held)
    probabilities = tuple(p / mass for p in held) if mass > 0 else (1 / len(held),) * len(held)
    return Choice(probabilities, min(mass, 1.0), prompt_tokens)


def logprob(value: Any) -> float:
    """A natural log-probability as a float; servers write minus infinity as -9999. Raises ValueError on NaN."""
    number = float(value)
    if math.isnan(number):
        raise ValueError("NaN is no log-probability")
    return number


def count(usage: Any, name: str) -> int:
    """A number of tokens from the `usage` block; 0 where the server counts none."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
