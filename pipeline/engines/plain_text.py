"""Text that stays text: what spells a token that steers a model is broken, so that no tokenizer reads the token.

A token is broken behind its first character by a zero-width space, one more than there were already, so that no two
texts become one. A token of a single character cannot be broken: it is written as an HTML entity. Where a tokenizer's
normaliser takes that back (it drops zero-width characters, folds letters), `STRONGER` ways are tried by the caller,
which looks at the ids. This module needs no tokenizer: a list of tokens is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

BREAK = "\u200b"
Way = Callable[[str], str]


def readable(text: str) -> str:
    """`text` with U+FFFD for lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def steers(token: str, special: bool) -> bool:
    """Whether an added token may steer a model. Runs of spaces do not, nor do words and letters that were added to a
    vocabulary and are not marked as special."""
    body = token.strip(" \t\r\n\u2581")
    return bool(body) and (special or (len(token) > 1 and not body.isalnum()))


def with_texts(value: Any, plain: Callable[[str], str]) -> Any:
    """A value of JSON with each text in it, but no key, made plain."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {key: with_texts(each, plain) for key, each in value.items()}
    return [with_texts(each, plain) for each in value] if isinstance(value, list | tuple) else value


class PlainText:
    def __init__(self, tokens: Iterable[str]) -> None:
        """`tokens`: every token that a text must not become."""
        known = set(tokens)
        single = sorted(token for token in known if len(token) == 1)
        longer = {token for token in known if len(token) > 1} | {_entity(token) for token in single}
        pattern = _any_of(longer)
        if single:
            pattern = f"{pattern}|[{re.escape(''.join(single))}]" if longer else f"[{re.escape(''.join(single))}]"
        self._found = re.compile(pattern or r"(?!)")

    def __call__(self, text: str) -> str:
        return self._found.sub(_break, readable(text))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where tokens stand in a text, broken ones among them."""
        return [found.span() for found in self._found.finditer(text)]


def _break(found: re.Match[str]) -> str:
    token = found[0]
    return f"{token[0]}{BREAK}{token[1:]}" if len(token) > 1 else _entity(token)


def _entity(character: str) -> str:
    return f"&#x{ord(character):x};"


def _any_of(tokens: Iterable[str]) -> str:
    """A pattern of the longest of `tokens` at a place, also with breaks behind its first character: common beginnings
    are written once, because tokenizers have up to thousands of such tokens."""
    tree: dict[str, dict[str, object]] = {}
    for token in sorted(tokens):
        node: dict[str, object] = tree  # type: ignore[assignment]
        for character in token:
            node = node.setdefault(character, {})  # type: ignore[assignment]
        node[""] = {}
    return "|".join(f"{re.escape(first)}{BREAK}*{_rest(node)}" for first, node in tree.items())


def _rest(node: dict[str, object]) -> str:
    prefix = ""
    while len(node) == 1 and "" not in node:  # not by recursion: tokens may be long
        [(character, node)] = node.items()  # type: ignore[assignment]
        prefix += re.escape(character)
    branches = [f"{re.escape(character)}{_rest(after)}" for character, after in node.items() if character]  # type: ignore[arg-type]
    if not branches:
        return prefix
    return f"{prefix}(?:{'|'.join(branches)}){'?' if '' in node else ''}"


def _spread(separator: str) -> Way:
    return lambda token: separator.join(token) if len(token) > 1 else _entity(token)


# What to put in place of a token that a tokenizer reads in spite of its break, the least visible first.
STRONGER: tuple[Way, ...] = (
    *map(_spread, ("\u2060", "\u034f", "\u00ad", " ", "_", "\u00b7")),
    lambda token: "".join(map(_entity, token)),
    lambda token: " ".join(f"U+{ord(character):04X}" for character in token),
)
