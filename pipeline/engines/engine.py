"""The contract of an engine: what runs a language model, and nothing of what it is asked for.

To add one, write `pipeline/engines/x.py` with a function `build(settings: EngineSettings) -> Engine`; settings then
say `engine: {kind: x}`. Heavy imports go inside `build` or the methods, so that choosing another engine costs nothing.
A function `check(settings) -> None`, where it has one, tells a mistake in the settings early, loading nothing.
A method `release() -> None` of the engine, where it has one, gives back the device's memory until it is asked again:
training, or another model, needs it meanwhile. An attribute `before_loading`, where it has one, is set to what it is to
call then before it loads again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from constitution.errors import UserError
from constitution.records import FinishReason, Messages

T = TypeVar("T")

# Longer than the model reads (or than memory holds); refused by the chat template; without a token; refused by the
# server for what it says.
WhyRefused: TypeAlias = Literal["too_long", "template", "empty", "refused"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a role's engine is built from. `options` holds what only that kind of engine knows."""

    kind: str = "transformers"
    model: str = ""  # a folder, or the name a server knows
    revision: str = ""  # declared by the user where weights cannot be read (a remote model)
    dtype: str = "float32"
    device: str = "auto"  # "auto": CUDA when there is one
    batch_size: int = 64
    base_url: str | Sequence[str] = ""  # several servers of one model share the work
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. `exact_mass`: the options' mass is over the whole vocabulary. `in_flight`: how many
    requests it has under way at once, of one that waits for another machine: it is called from several threads then,
    so that the end of one batch keeps no other waiting. 1: it computes by itself, and is called once at a time."""

    generate: bool = True
    choose: bool = True
    score: bool = True
    exact_mass: bool = True
    in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy. `max_tokens` counts new tokens."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Chat:
    """A request in the model's own chat template. `answer_prefix` is put in the assistant's mouth; `template_args` go
    to the template (for example `{"enable_thinking": False}`)."""

    messages: Messages
    answer_prefix: str = ""
    template_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Generate:
    chat: Chat
    sampling: Sampling
    seed: int  # from the record's id: sampling does not depend on the batch


@dataclass(frozen=True, slots=True)
class Completion:
    """`text` has neither the prompt nor special tokens nor the answer prefix. `reasoning` is a thinking block, kept
    apart: never judged, never trained on. `ids` are the new tokens themselves, the stop token among them, where the
    engine knows them: online training needs what was sampled, and text does not always tokenise back to it."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    tokens: int
    reasoning: str = ""
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Choose:
    """K chats that share a prefix (the engine finds it), each answered by one of `labels` ("A", "B").

    Each label must be one token in the context where the answer begins; an engine raises UserError where it is not.
    """

    chats: tuple[Chat, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """`probabilities`: over the labels, normalised to sum 1. `mass`: what the labels held together of the whole
    vocabulary, in [0, 1]. All zero mass (nothing readable) has uniform probabilities."""

    probabilities: tuple[float, ...]
    mass: float
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """Log-probability of `completion` (plus the end-of-turn token when `end` is set) after `chat`."""

    chat: Chat
    completion: str
    end: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """`tokens`: of the completion. `prompt_tokens`: of all that was read for it, the chat and the completion; 0 of an
    engine that does not say."""

    logprob: float  # natural log, summed over the completion's tokens
    tokens: int
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """One request that this engine cannot answer, whoever asks it again: it stands in the place of its result, and the
    others of the call are answered. `said`: one line for people, with the tokens and the limit where they are known.

    A failure that asking again may mend is an EngineError, and one of the settings, which no request would survive, a
    UserError.
    """

    kind: WhyRefused
    said: str


def all_answered(found: Iterable[T | Refused]) -> list[T]:
    """`found`, for a caller that cannot go on without one of them. Raises UserError with what was said of the first
    that was refused."""
    answered: list[T] = []
    for each in found:
        if isinstance(each, Refused):
            raise UserError(each.said)
        answered.append(each)
    return answered


@runtime_checkable
class Engine(Protocol):
    """Every call is batched; results come back in the order of the requests, a `Refused` in the place of one that this
    engine cannot answer. An engine may split a call further."""

    @property
    def fingerprint(self) -> str:
        """Digest of weights, tokenizer, chat template, dtype (never device, batch size, threads or versions)."""

    @property
    def capabilities(self) -> Capabilities: ...

    def render(self, chat: Chat) -> list[int]:
        """Token ids of the chat with the generation prompt and answer prefix."""

    def generate(self, requests: Sequence[Generate]) -> Sequence[Completion | Refused]: ...

    def choose(self, groups: Sequence[Choose]) -> Sequence[Sequence[Choice | Refused]]:
        """For each group K choices: a chat that is refused takes none of its group with it."""

    def score(self, requests: Sequence[Score]) -> Sequence[Scored | Refused]: ...

    def close(self) -> None:
        """Free memory. The engine is not used again."""


class EngineError(RuntimeError):
    """The engine failed in a way that asking again later may mend (a transport failure, a full queue)."""
