"""What a request is told, as OpenAI's protocol shapes it: text with what ended it, and log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.engines.engine import Chat
from pipeline.serving.model import ServedModel, Step

LEAST = -9999.0  # of a token that cannot be: JSON has no infinity


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the first of the stops, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


class Text:
    """How the new tokens of one prompt read. `chat`: the prompt is its, and thinking is taken apart."""

    def __init__(
        self, model: ServedModel, prompt: Sequence[int], stops: Sequence[str], end: frozenset[int],
        chat: tuple[Chat, str] | None = None, special: bool = False,
    ) -> None:  # fmt: skip
        self._model, self._prompt, self._stops, self._end = model, prompt, stops, end
        self._chat, self._special = chat, special

    def of(self, written: Sequence[int]) -> tuple[str, str, str]:
        """The text, the thinking before it, and `stop` or `length`."""
        stopped = bool(written) and written[-1] in self._end
        ids = written[:-1] if stopped else written
        reasoning = ""
        if self._chat is None:
            text = self._model.following(self._prompt, ids, self._special)
        else:
            chat, before = self._chat
            text, reasoning = self._model.chats.answer(before, ids, chat)
        text, found = cut(text, self._stops)
        return text, reasoning, "stop" if stopped or found else "length"

    def ended(self, written: list[int]) -> bool:
        """Whether one of the stops is in the text. It is asked after every token, so the end is looked at first."""
        if not self._stops:
            return False
        tail = 4 * (max(map(len, self._stops)) + 8)  # in tokens, of which a character has four at most
        return cut(self._model.decode(written[-tail:], self._special), self._stops)[1] and self.of(written)[2] == "stop"

    def sure(self, written: Sequence[int]) -> tuple[str, str]:
        """As much of the text and the thinking as further tokens will not change."""
        text, reasoning, why = self.of(written)
        if why == "length":
            longest = max(map(len, self._stops), default=1) - 1
            text = text.rstrip("\ufffd")
            text = text[: len(text) - longest] if longest else text
        return text, reasoning.rstrip("\ufffd")


def of_completion(model: ServedModel, steps: Sequence[Step], as_ids: bool) -> dict[str, Any]:
    """`logprobs` of a completion."""
    names = [_name(model, step.token, as_ids) for step in steps]
    offsets, at = [], 0
    for step in steps:
        offsets.append(at)
        at += len(model.decode([step.token], True))
    tops: list[dict[str, float] | None] = []
    for step in steps:
        if step.logprob is None:
            tops.append(None)
            continue
        found: dict[str, float] = {}
        for token, log in step.top:  # two tokens may read alike: the likelier stands
            found.setdefault(_name(model, token, as_ids), _shown(log))
        tops.append(found)
    logs = [None if step.logprob is None else _shown(step.logprob) for step in steps]
    return {"tokens": names, "token_logprobs": logs, "top_logprobs": tops, "text_offset": offsets}


def of_prompt(model: ServedModel, steps: Sequence[Step]) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: by place, the token's own and the likeliest, by id."""
    return [
        None
        if step.logprob is None
        else {
            str(token): {"logprob": _shown(log), "decoded_token": model.decode([token], True)}
            for token, log in (*step.top, (step.token, step.logprob))
        }
        for step in steps
    ]


def of_chat(model: ServedModel, steps: Sequence[Step]) -> dict[str, Any]:
    """`logprobs` of a chat's answer."""

    def one(token: int, log: float) -> dict[str, Any]:
        text = model.decode([token], True)
        return {"token": text, "logprob": _shown(log), "bytes": list(text.encode())}

    return {
        "content": [
            one(step.token, step.logprob or 0.0) | {"top_logprobs": [one(token, log) for token, log in step.top]}
            for step in steps
        ]
    }


def _name(model: ServedModel, token: int, as_ids: bool) -> str:
    return f"token_id:{token}" if as_ids else model.decode([token], True)


def _shown(log: float) -> float:
    return log if math.isfinite(log) else LEAST
