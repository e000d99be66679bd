"""Reading what a model server answered: nothing in it is trusted to be there, finite, or of a sane length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from constitution.errors import UserError
from constitution.records import FinishReason
from pipeline.engines.engine import Choice, Completion, EngineError, Sampling
from pipeline.engines.thinking import Reply, split

LETTERS_A_TOKEN = 64  # an answer longer than this a token was not held to max_tokens by its server
SLACK = 0.01  # what rounding in a short float may add to a probability of 1
MOST_TOKENS = 10**8  # of one request: a context a hundred times the longest
FINISHED: dict[Any, FinishReason] = {"stop": "stop", "length": "length"}


@contextmanager
def in_protocol(host: str) -> Iterator[None]:
    """Turns a missing key, a wrong type and the like into EngineError: what cannot be read is not an answer."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
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
    ids: tuple[int, ...] = (),
    reply: Callable[[str], Reply] = split,
) -> Completion:
    """A server that ignores `max_tokens` must not fill the store: what is far too long is cut, and marked as cut.

    `reasoning` is what the server kept apart by itself; else `reply` takes the text apart. Raises TypeError where the
    server sent no text.
    """
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise TypeError("text")
    reason = FINISHED.get(finish_reason, "other") if isinstance(finish_reason, str) else "other"
    most = LETTERS_A_TOKEN * sampling.max_tokens
    if len(text) + len(reasoning) > most:
        text, reasoning, reason, ids = text[:most], reasoning[:most], "length", ()
    if not reasoning:
        text, reasoning = reply(text)
    return Completion(text, reason, prompt_tokens, tokens, reasoning, ids)


def choice_of(held: Sequence[float], prompt_tokens: int) -> Choice:
    """A choice from the probability that each label held of the whole vocabulary."""
    mass = math.fsum(held)
    probabilities = tuple(p / mass for p in held) if mass > 0 else (1 / len(held),) * len(held)
    return Choice(probabilities, min(mass, 1.0), prompt_tokens)


def logprob(value: Any) -> float:
    """What a server says is a log-probability, as a float: servers write minus infinity as -9999. Raises TypeError for
    what is no number (`true` and "-0.5" are none) and ValueError for NaN; whether it can be one, `shares` says."""
    if type(value) not in (int, float):
        raise TypeError("a log-probability is a number")
    number = float(value)
    if math.isnan(number):
        raise ValueError("NaN is no log-probability")
    return number


def shares(logs: Sequence[float], host: str) -> list[float]:
    """The probabilities of different tokens in one place. Raises UserError where they are none, or hold more than all
    of it together: logits, perhaps, or an invention."""
    held = [math.exp(min(log, 1.0)) for log in logs]
    if max(held, default=0.0) > 1 + SLACK or math.fsum(held) > 1 + SLACK:
        raise UserError(
            f"the server at {host} gives its options more than all the probability, so it shows something else than "
            "log-probabilities; start vLLM with --logprobs-mode raw_logprobs, or use another server"
        )
    return [min(p, 1.0) for p in held]


def count(usage: Any, name: str) -> int:
    """A number of tokens from the `usage` block; 0 where the server counts none, or what no text has."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0


def token_id(value: Any) -> int:
    """A token's number, or a place in a list. Raises TypeError or ValueError for what is none."""
    if type(value) is not int:
        raise TypeError("a whole number")
    if not 0 <= value < 2**31:
        raise ValueError("out of range")
    return value
