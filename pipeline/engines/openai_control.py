"""The tokens that steer a vLLM server's model, learnt from `/tokenizer_info`; and text in which none of them is left.

Started with `--enable-tokenizer-info-endpoint` the server tells its special and added tokens. What is broken in a text,
and how, is `plain_text`'s, as with a tokenizer folder; that it worked is seen in the ids that the server makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from constitution.errors import UserError
from pipeline.engines import thinking
from pipeline.engines.plain_text import BREAK, STRONGER, PlainText, steers, with_texts

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
LISTED = ("additional_special_tokens", "extra_special_tokens")
UNKNOWN = ("<unk>", "[UNK]", "<UNK>")  # what a tokenizer says to a rare character: no steering
MOST = 100_000  # tokens that are believed


class Unreadable(UserError):
    """One chat that cannot be put before this model as it is: others can."""


class Control:
    """`ids`: of the tokens that steer, those whose number is known. `unnumbered`: those whose number is to be asked."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        numbered = dict(_numbered(info.get("added_tokens_decoder")))
        named = set(_named(info))
        self.tokens = {token for token in [*numbered.values(), *named] if steers(token, True)}
        self.ids = {number: token for number, token in numbered.items() if token in self.tokens}
        self.ids = {number: token for number, token in self.ids.items() if token not in UNKNOWN}
        self.unnumbered = self.tokens - set(numbered.values()) - set(UNKNOWN)
        eos = _content(info.get("eos_token"))
        self.eos = next((number for number, token in numbered.items() if token == eos), None)
        template = info.get("chat_template")
        template = template if isinstance(template, str) else ""
        self.tags = thinking.tags_of(self.tokens, template)
        self.known = thinking.known_tags(self.tokens, template)
        marks = {tag for tags in self.tags for tag in tags}
        if "<|channel|>" in self.tokens:
            marks |= {*thinking.CHANNEL_MARKS, "<|end|>", "<|return|>", "<|call|>"}
        self.marks = marks & self.tokens
        self.plain = PlainText(self.tokens)
        others = sorted(self.tokens - self.marks, key=len, reverse=True)
        self._not_marks = re.compile("|".join(map(re.escape, others)) or r"(?!)")

    def read(self, ids: Sequence[int]) -> list[int]:
        """Those of `ids` that steer."""
        return [token for token in ids if token in self.ids]

    def ways(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The texts with their tokens broken, each way less readable than the one before."""
        yield [self.plain(text) for text in texts]
        for way in STRONGER:
            broken = []
            for text in texts:
                for start, end in reversed(self.plain.spans(text)):
                    text = text[:start] + way(text[start:end].replace(BREAK, "") or text[start:end]) + text[end:]
                broken.append(self.plain(text))
            yield broken
        yield [re.sub(r"([<\[|&])(?=\S)", f"\\1{BREAK}", self.plain(text)) for text in texts]

    def prefixes(self, text: str) -> Iterator[str]:
        """An answer prefix, broken each way: text, in which a block of thinking may be opened and closed."""
        tags = sorted({re.escape(tag) for pair in self.tags for tag in pair}, key=len, reverse=True)
        parts = re.split(f"({'|'.join(tags)})", text)
        for between in self.ways(parts[::2]):
            yield "".join(part for pair in zip(between, [*parts[1::2], ""], strict=True) for part in pair)

    def steers_in_prefix(self, ids: Sequence[int]) -> bool:
        tags = {tag for pair in self.tags for tag in pair}
        return any(self.ids[token] not in tags for token in self.read(ids))

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the chat template, their texts as text alone."""
        return {name: with_texts(value, self.plain) for name, value in given.items() if name != thinking.OPTION}

    def without(self, text: str) -> str:
        """What a model wrote, without control tokens but those that tell thinking from answer."""
        return self._not_marks.sub("", text)


def unsaid(host: str) -> UserError:
    return UserError(
        f"the server at {host} does not say which tokens steer its model, so a text that is judged could spell a turn "
        "of its own. Name the folder of the model's tokenizer as the engine's option, options = {tokenizer = "
        '"FOLDER"}, or start vLLM with --enable-tokenizer-info-endpoint'
    )


def _content(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _numbered(given: Any) -> Iterator[tuple[int, str]]:
    if not isinstance(given, dict):
        return
    for number, value in list(given.items())[:MOST]:
        token = _content(value)
        if token and isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
            yield int(number), token


def _named(info: Mapping[str, Any]) -> Iterator[str]:
    for name in NAMED:
        if token := _content(info.get(name)):
            yield token
    for name in LISTED:
        values = info.get(name)
        for value in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
            if token := _content(value):
                yield token
