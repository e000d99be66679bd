"""An engine whose likelihoods and choices are a function of the test's, and which keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constitution.principles import Principle
from constitution.records import Comparison, Message, dialogue_id, text_digest
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    Generate,
    Refused,
    Score,
    Scored,
)
from pipeline.judges.judge import Case

KIND = Principle("kind", "Be kind", "Is it rude?", "Be kind.", "Which reply is kinder?")
SHORT = Principle("short", "Be short", "Is it long?", "Be short.", "Which reply is shorter?")
ASKED = (Message("user", "How do I bake?"),)
TOO_LONG = Refused("too_long", "the text has 9,999 tokens, and the model reads at most 99")


def case(one: str, other: str, *principles: Principle, messages: tuple[Message, ...] = ASKED) -> Case:
    comparison = Comparison.of(dialogue_id(messages), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    return Case(comparison, messages, first, second, principles)


class Likelihoods:
    """`Engine` for tests."""

    fingerprint = "likelihoods"
    capabilities = Capabilities()

    def __init__(
        self,
        score: Callable[[str, str], float | Refused] = lambda chat, text: -float(len(text)),
        choose: Callable[[str, tuple[str, ...]], Choice | Refused] | None = None,
        generate: Callable[[str], Completion | Refused] | None = None,
    ) -> None:
        """`score(chat, completion)`: nats; `choose(chat, labels)`; `generate(chat)`: chats as text."""
        self._score, self._choose, self._generate = score, choose, generate
        self.scored: list[Score] = []
        self.chosen: list[tuple[Chat, tuple[str, ...]]] = []
        self.generated: list[Generate] = []

    def render(self, chat: Chat) -> list[int]:
        return list(text_of(chat).encode())

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        self.scored += requests
        found = [self._score(text_of(r.chat), r.completion) for r in requests]
        return [
            f if isinstance(f, Refused) else Scored(f, len(r.completion.split()), len(text_of(r.chat)))
            for f, r in zip(found, requests, strict=True)
        ]

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        assert self._choose is not None
        self.chosen += [(chat, group.labels) for group in groups for chat in group.chats]
        return [[self._choose(text_of(chat), group.labels) for chat in group.chats] for group in groups]

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        assert self._generate is not None
        self.generated += requests
        return [self._generate(text_of(r.chat)) for r in requests]

    def close(self) -> None:
        pass


def text_of(chat: Chat) -> str:
    return "\n".join([*(f"{m.role}: {m.content}" for m in chat.messages), f"assistant: {chat.answer_prefix}"])
