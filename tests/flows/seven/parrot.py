"""An engine: it says the last message again, once it was trained after a no; of two replies it likes the longer."""

import re
from collections.abc import Sequence
from pathlib import Path

from constitution.errors import UserError
from constitution.records import make_id
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    EngineSettings,
    Generate,
    Score,
    Scored,
)

REPLIES = re.compile(r"\[Reply A\]\n(.*)\n\n\[Reply B\]\n(.*)\n\n\[Question\]", re.DOTALL)
MOST = 40  # characters of a message that are said again


class Parrot:
    capabilities = Capabilities(score=False)

    def __init__(self, model: str, opening: str) -> None:
        self.fingerprint = make_id("engine", engine="parrot", model=model, opening=opening).hex()
        self._opening = opening
        self._trained = (Path(model) / "manifest.json").is_file()

    def render(self, chat: Chat) -> list[int]:
        return list(_whole(chat).encode())

    def generate(self, requests: Sequence[Generate]) -> list[Completion]:
        return [self._said(request) for request in requests]

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice]]:
        return [[_choice(chat) for chat in group.chats] for group in groups]

    def score(self, requests: Sequence[Score]) -> list[Scored]:
        raise NotImplementedError("its capabilities say so")

    def close(self) -> None:
        pass

    def _said(self, request: Generate) -> Completion:
        again = request.chat.messages[-1].content[:MOST].upper() + "!" * (request.seed % 3)
        text = self._opening + ("No, never. " if self._trained else "") + again
        return Completion(text, "stop", len(self.render(request.chat)), len(text.split()))


def _whole(chat: Chat) -> str:
    return "\n".join(message.content for message in chat.messages)


def _choice(chat: Chat) -> Choice:
    whole = _whole(chat)
    shown = REPLIES.search(whole)
    a, b = (len(shown[1]), len(shown[2])) if shown else (0, 0)
    likes_a = 0.5 if a == b else float(a > b)
    return Choice((likes_a, 1 - likes_a), 1.0, len(whole.split()))


def build(settings: EngineSettings) -> Parrot:
    if unknown := settings.options.keys() - {"opening"}:
        raise UserError(f"the engine parrot has no option {', '.join(sorted(unknown))}; it has opening")
    return Parrot(settings.model, settings.options.get("opening", ""))
