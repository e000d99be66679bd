"""Token ids of a chat, and of a text that continues it: from a tokenizer folder, or from vLLM's own tokenizer.

A label is looked up where it would stand: "A" after "<assistant>\\n" and " A" after "is" are different tokens. With a
folder the ids are those of the transformers engine. vLLM's own tokenizer costs a request a chat, and reads control
tokens that a text spells: they are learnt from the server and broken in every text, and the ids that come back are held
against those of the same chat with harmless messages (`openai_control`). A server that does not tell them is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from constitution.errors import UserError
from constitution.records import Message, Messages, canonical
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat
from pipeline.engines.openai_control import Control, Unreadable, unsaid
from pipeline.engines.openai_transport import RefusedByServer, Transport
from pipeline.engines.thinking import Reply, opened_by, split, tags_named

HARMLESS = "x"
REMEMBERED = 4096  # shapes of chats
TAIL = 16  # tokens looked back on, at most, when a text is put after others: further back nothing merges


class Ids(Protocol):
    """`prompt` is always what `render(chat)` gave."""

    async def render(self, chat: Chat) -> list[int]: ...

    async def labels(self, chat: Chat, prompt: list[int], labels: tuple[str, ...]) -> list[int]:
        """The one token of each label after the prompt. Raises UserError where it is not one, or two are the same."""

    async def completion(self, chat: Chat, prompt: list[int], text: str, end: bool) -> list[int]:
        """Ids of `text` after the prompt, and of the end of the turn."""

    async def stops(self) -> list[int]:
        """The tokens that end an answer by the template and the tokenizer: a server may know fewer."""

    async def keeps_special(self) -> bool:
        """Whether special tokens have to stay in a generated text, because they tell thinking from answer."""

    async def reply(self, chat: Chat, prompt: list[int], text: str, ids: list[int]) -> Reply:
        """What was generated after the prompt, taken apart. `ids` where the server gives them."""


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
        self.folder = folder
        self._chats = ChatTokenizer(tokenizer)
        self._last: tuple[Chat, tuple[str, list[int]]] | None = None

    async def render(self, chat: Chat) -> list[int]:
        try:
            return self._read(chat)[1]
        except UserError as error:
            raise Unreadable(str(error)) from None

    async def labels(self, chat: Chat, prompt: list[int], labels: tuple[str, ...]) -> list[int]:
        return self._chats.label_ids(self._read(chat)[0], prompt, labels)

    async def completion(self, chat: Chat, prompt: list[int], text: str, end: bool) -> list[int]:
        ids = self._chats.completion_ids(self._read(chat)[0], prompt, text) if text else []
        if not end:
            return ids
        if self._chats.end_of_turn is None:
            raise UserError("this tokenizer has no token that ends a turn, so an ended answer cannot be scored")
        return [*ids, self._chats.end_of_turn]

    async def stops(self) -> list[int]:
        return self._chats.stop_ids

    async def keeps_special(self) -> bool:
        return False  # they are read from the ids

    async def reply(self, chat: Chat, prompt: list[int], text: str, ids: list[int]) -> Reply:
        if ids:
            return self._chats.answer(self._read(chat)[0], ids, chat)
        return self._chats.split(text, chat, self._read(chat)[0])

    def encode(self, text: str) -> list[int]:
        return self._chats.ids([text])[0]

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
        self._endings: dict[tuple[int, ...], str] = {}  # of prompts, as text
        self._shapes: dict[tuple[object, str], list[int]] = {}
        self._prefixes: dict[str, str] = {}  # answer prefixes as they were put
        self._control: Control | None = None
        self._telling = asyncio.Lock()
        self._end: int | None = None
        self._stops: list[int] | None = None
        self._lock = asyncio.Lock()  # many chats at once want the same label: one asks, the others remember

    async def render(self, chat: Chat) -> list[int]:
        """Raises Unreadable where a message's tokens cannot be broken, UserError where the server tells no tokens."""
        control = await self._known()
        shape = await self._shape(chat)
        for contents in control.ways([message.content for message in chat.messages]):
            messages = tuple(Message(m.role, text) for m, text in zip(chat.messages, contents, strict=True))
            ids = await self._chat(messages, chat.template_args)
            if control.read(ids) == shape:
                break
        else:
            self._transport.doubts += 1  # it may be the template that is another
            raise Unreadable(
                "a message spells tokens that steer this model, and its tokenizer reads them however they are "
                f"written: {chat.messages[-1].content[-60:]!r}. Leave this text out, or use another model"
            )
        if chat.answer_prefix:
            tail = await self._tail(ids, chat.template_args)
            for prefix in control.prefixes(chat.answer_prefix):
                following = await self._continued(tail, prefix)
                if not control.steers_in_prefix(following):
                    break
            self._prefixes[chat.answer_prefix] = prefix
            ids = ids + following
        return ids

    async def _known(self) -> Control:
        """The server's control tokens, asked once."""
        async with self._telling:
            if self._control is None:
                try:
                    info = await self._transport.request("GET", f"{self._root}/tokenizer_info")
                except RefusedByServer as refusal:
                    if refusal.status in (404, 405, 501):
                        raise unsaid(self._transport.host) from None
                    raise
                control = Control(info)
                for token in sorted(control.unnumbered):
                    ids = await self._encode(token)
                    if len(ids) == 1:
                        control.ids[ids[0]] = token
                if not control.ids:
                    raise unsaid(self._transport.host)
                self._control = control
            return self._control

    async def _shape(self, chat: Chat) -> list[int]:
        """The control tokens of a chat like this one with harmless messages."""
        filled = tuple((m.role, None if m.content.strip() else m.content) for m in chat.messages)
        key = (filled, canonical(chat.template_args))
        async with self._telling:
            if key not in self._shapes:
                if len(self._shapes) >= REMEMBERED:
                    self._shapes.clear()
                harmless = tuple(Message(role, HARMLESS if text is None else text) for role, text in filled)
                self._shapes[key] = self._control.read(await self._chat(harmless, chat.template_args))  # type: ignore[union-attr]
            return self._shapes[key]

    async def rendered(self, chat: Chat) -> tuple[int, ...]:
        """As `render`, by the server's own template, of a chat without control tokens."""
        return tuple(await self._chat(chat.messages, {}))

    async def encoded(self, text: str) -> list[int]:
        """The ids that the server makes of a text by itself."""
        return await self._encode(text)

    async def labels(self, chat: Chat, prompt: list[int], labels: tuple[str, ...]) -> list[int]:
        tail = await self._tail(prompt, chat.template_args, self._prefix(chat))
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
        control = await self._known()
        tail = await self._tail(prompt, chat.template_args, self._prefix(chat))
        ids: list[int] = []
        for [plain] in control.ways([text]) if text else ():
            ids = await self._put_after(tail, plain)
            if not control.read(ids):
                break
        else:
            if text:
                raise Unreadable(f"an answer spells tokens that steer this model: {text[-60:]!r}. Leave it out")
        return [*ids, await self._end_of_turn()] if end else ids

    async def stops(self) -> list[int]:
        if self._stops is None:
            found = {(await self._known()).eos}
            with suppress(UserError):  # the template puts nothing after an answer, or takes no assistant
                found.add(await self._end_of_turn())
            self._stops = sorted(token for token in found if token is not None)
        return self._stops

    async def keeps_special(self) -> bool:
        return bool((await self._known()).marks)

    async def reply(self, chat: Chat, prompt: list[int], text: str, ids: list[int]) -> Reply:
        control = await self._known()
        tags = (*tags_named(chat.template_args), *control.tags)
        prefix = self._prefix(chat)
        tail = await self._tail(prompt, chat.template_args, prefix)
        async with self._lock:
            if tail not in self._endings:
                self._endings[tail] = await self._decode(list(tail))
        known = (*tags_named(chat.template_args), *control.known)
        return split(control.without(text), opened_by(self._endings[tail], prefix, tags), tags, known)

    def _prefix(self, chat: Chat) -> str:
        """The answer prefix as `render` put it."""
        return self._prefixes.get(chat.answer_prefix, chat.answer_prefix)

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
        arguments = self._control.arguments(template_args) if self._control else dict(template_args)
        if arguments:
            body["chat_template_kwargs"] = arguments
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
