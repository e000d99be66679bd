"""Token ids of a chat, and of a text that continues it: from a tokenizer folder, or from vLLM's own tokenizer.

A label is looked up where it would stand: "A" after "<assistant>\\n" and " A" after "is" are different tokens. With a
folder the ids are those of the transformers engine, which also breaks special tokens spelled out in a message; vLLM's
tokenizer does not, and costs a request a chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from constitution.errors import UserError
from constitution.records import Message, Messages, canonical
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat
from pipeline.engines.openai_transport import RefusedByServer, Transport

TAIL = 16  # tokens looked back on, at most, when a text is put after others: further back nothing merges


class Ids(Protocol):
    """`prompt` is always what `render(chat)` gave."""

    async def render(self, chat: Chat) -> list[int]: ...

    async def labels(self, chat: Chat, prompt: list[int], labels: tuple[str, ...]) -> list[int]:
        """The one token of each label after the prompt. Raises UserError where it is not one, or two are the same."""

    async def completion(self, chat: Chat, prompt: list[int], text: str, end: bool) -> list[int]:
        """Ids of `text` after the prompt, and of the end of the turn."""

    async def thinking(self, chat: Chat, prompt: list[int]) -> bool:
        """Whether the prompt ends inside a thinking block."""


class FolderIds:
    """A tokenizer folder on this machine: no request at all. Needs transformers."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} holds no tokenizer that transformers can load: {str(error)[:200]}") from None
        if not tokenizer.chat_template:
            raise UserError(f"the tokenizer in {folder} has no chat template; take the folder of the chat model served")
        self._chats = ChatTokenizer(tokenizer)
        self._last: tuple[Chat, tuple[str, list[int]]] | None = None

    async def render(self, chat: Chat) -> list[int]:
        return self._read(chat)[1]

    async def labels(self, chat: Chat, prompt: list[int], labels: tuple[str, ...]) -> list[int]:
        return self._chats.label_ids(self._read(chat)[0], prompt, labels)

    async def completion(self, chat: Chat, prompt: list[int], text: str, end: bool) -> list[int]:
        ids = self._chats.completion_ids(self._read(chat)[0], prompt, text) if text else []
        if not end:
            return ids
        if self._chats.end_of_turn is None:
            raise UserError("this tokenizer has no token that ends a turn, so an ended answer cannot be scored")
        return [*ids, self._chats.end_of_turn]

    async def thinking(self, chat: Chat, prompt: list[int]) -> bool:
        return self._chats.is_thinking(chat, self._read(chat)[0])

    def _read(self, chat: Chat) -> tuple[str, list[int]]:
        """The chat as text and ids; the last one is kept: its ids and labels are asked for one after another."""
        if self._last is None or self._last[0] is not chat:
            self._last = chat, self._chats.prompt(chat)
        return self._last[1]


class ServerIds:
    """vLLM's `/tokenize` and `/detokenize`. What is asked again and again (labels, prefixes) is remembered."""

    def __init__(self, transport: Transport, root: str, model: str) -> None:
        self._transport = transport
        self._root = root
        self._model = model
        self._opening: dict[str, tuple[int, ...]] = {}  # by template arguments
        self._after: dict[tuple[tuple[int, ...], str], list[int]] = {}
        self._thinking: dict[tuple[int, ...], bool] = {}
        self._end: int | None = None
        self._lock = asyncio.Lock()  # many chats at once want the same label: one asks, the others remember

    async def render(self, chat: Chat) -> list[int]:
        ids = await self._chat(chat.messages, chat.template_args)
        if chat.answer_prefix:
            ids = ids + await self._continued(await self._tail(ids, chat.template_args), chat.answer_prefix)
        return ids

    async def rendered(self, chat: Chat) -> tuple[int, ...]:
        """As `render`, by the server's own template; nothing of a server that does not tokenize."""
        try:
            return tuple(await self._chat(chat.messages, {}))
        except RefusedByServer as refusal:
            if refusal.status in (404, 405):
                return ()
            raise

    async def labels(self, chat: Chat, prompt: list[int], labels: tuple[str, ...]) -> list[int]:
        tail = await self._tail(prompt, chat.template_args, chat.answer_prefix)
        found = []
        for label in labels:
            ids = await self._continued(tail, label)
            if len(ids) != 1:
                raise UserError(
                    f"the option {label!r} is {len(ids)} tokens of this model where the answer begins; "
                    "use options that are one token (A and B), or another answer prefix"
                )
            found += ids
        if len(set(found)) < len(found):
            raise UserError(f"two of the options {', '.join(labels)} are the same token of this model; rename one")
        return found

    async def completion(self, chat: Chat, prompt: list[int], text: str, end: bool) -> list[int]:
        tail = await self._tail(prompt, chat.template_args, chat.answer_prefix)
        ids = await self._put_after(tail, text) if text else []
        return [*ids, await self._end_of_turn()] if end else ids

    async def thinking(self, chat: Chat, prompt: list[int]) -> bool:
        tail = await self._tail(prompt, chat.template_args, chat.answer_prefix)
        async with self._lock:
            if tail not in self._thinking:
                self._thinking[tail] = (await self._decode(list(tail))).rstrip().endswith("<think>")
        return self._thinking[tail]

    async def _tail(self, prompt: list[int], template_args: Mapping[str, Any], prefix: str = "") -> tuple[int, ...]:
        """The last tokens of a prompt that ends in `prefix`: from where the template opens the answer, if it can be
        told, so that they are the same for all chats and what was asked for one need not be asked again.

        That place is where the renderings of two questions that share nothing begin to be the same.
        """
        key = canonical(template_args)
        async with self._lock:
            if key not in self._opening:
                one, other = [await self._chat((Message("user", text),), template_args) for text in ("x", "Why?")]
                same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False))
                self._opening[key] = tuple(token for token, _ in same)[TAIL - 1 :: -1]
        opening = self._opening[key]
        end = len(prompt) - len(self._after.get((opening, prefix), ()))
        start = max(0, end - len(opening))
        return tuple(prompt[start:] if opening and tuple(prompt[start:end]) == opening else prompt[-TAIL:])

    async def _continued(self, tail: tuple[int, ...], text: str) -> list[int]:
        async with self._lock:
            if (tail, text) not in self._after:
                self._after[tail, text] = await self._put_after(tail, text)
        return self._after[tail, text]

    async def _put_after(self, tail: tuple[int, ...], text: str) -> list[int]:
        """Ids of `text` where it follows `tail`. Raises UserError when the two would merge into one token.

        Some tokenizers put a space before a text's first token, so no more of the tail is used than decoding and
        encoding give back.
        """
        for start in range(len(tail)):
            last = list(tail[start:])
            before = await self._decode(last)
            if await self._encode(before) != last:
                continue
            both = await self._encode(before + text)
            if both[: len(last)] == last:
                return both[len(last) :]
        raise UserError(
            f"this model's tokenizer merges {text[:40]!r} with the text before it; change the answer prefix, so that "
            "the answer begins at a token of its own"
        )

    async def _end_of_turn(self) -> int:
        """The first token, not of space alone, that follows where the chats of two one-letter answers differ."""
        if self._end is not None:
            return self._end
        one, other = [
            await self._chat((Message("user", "x"), Message("assistant", letter)), {}, open_turn=False)
            for letter in "AB"
        ]
        places = [place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]]
        for token in one[places[-1] + 1 :] if places and len(one) == len(other) else []:
            if (await self._decode([token])).strip():
                self._end = token
                return token
        raise UserError("the chat template puts nothing after an answer, so an ended answer cannot be scored")

    async def _chat(self, messages: Messages, template_args: Mapping[str, Any], open_turn: bool = True) -> list[int]:
        body: dict[str, Any] = {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "add_generation_prompt": open_turn,
        }
        if template_args:
            body["chat_template_kwargs"] = dict(template_args)
        return await self._tokens(body)

    async def _encode(self, text: str) -> list[int]:
        return await self._tokens({"prompt": text, "add_special_tokens": False})

    async def _decode(self, ids: list[int]) -> str:
        body = {"model": self._model, "tokens": ids}
        return str((await self._transport.request("POST", f"{self._root}/detokenize", body)).get("prompt", ""))

    async def _tokens(self, body: dict[str, Any]) -> list[int]:
        answer = await self._transport.request("POST", f"{self._root}/tokenize", {"model": self._model, **body})
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not all(type(token) is int and 0 <= token < 2**31 for token in tokens):
            raise UserError(
                f"the server at {self._transport.host} does not tokenize as vLLM does; "
                "give the model's tokenizer folder as the engine's option tokenizer"
            )
        return tokens
