"""The one careful reader of JSON that a server sent: of a model server, and of an endpoint that rewards.

What it hands on nests no deeper than MAX_DEPTH, holds no whole number that a database could not hold (a longer one is a
float), and no text with the key in it. What the JSON means is its caller's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

MAX_DEPTH = 32  # answers of these protocols nest eight deep
DIGITS = 18  # of a whole number: fits 63 bits
_LONG_NUMBER = re.compile(rb"\d{%d}" % (DIGITS + 1))
_ESCAPED = re.compile(rb"\\(u00[0-7]|/)")  # how a server may write ASCII without writing it
PLACEHOLDER = 12  # letters, and nothing else, fewer than these: "EMPTY", "none", "token" are words, not secrets


class Secret(Protocol):
    """What pydantic's SecretStr is: prints as stars, and hands out its value only when asked."""

    def get_secret_value(self) -> str: ...


class Hiding:
    """Takes a key out of what a server said. A short word that servers without keys are given ("EMPTY") is hidden in
    messages alone: in an answer it is a word like any other."""

    def __init__(self, key: Secret | None) -> None:
        self._key = key

    def message(self, text: str) -> str:
        """A text for people, without the key in any spelling of it."""
        if self._key is None:
            return text
        key = self._key.get_secret_value()
        for spelt in (text, unquote(text)):  # in an address a key is often quoted, each server in its own way
            if key in spelt:
                return spelt.replace(key, "***")
        return text.replace(json.dumps(key)[1:-1], "***")

    def body(self, data: bytes, answer: bool) -> bytes:
        """What came over the wire, as long as anybody may see it: an answer, or a refusal."""
        if self._key is None or (answer and not self._is_secret(self._key.get_secret_value())):
            return data
        return data.replace(self._key.get_secret_value().encode(), b"***")

    def in_answers(self, data: bytes) -> Callable[[str], str] | None:
        """What takes the key out of the texts of an answer where it may be spelt with escapes; None where it is not."""
        if self._key is None or not self._is_secret(self._key.get_secret_value()) or not _ESCAPED.search(data):
            return None
        key = self._key
        return lambda text: text.replace(key.get_secret_value(), "***")

    @staticmethod
    def _is_secret(key: str) -> bool:
        return len(key) >= 6 and not (key.isalpha() and len(key) < PLACEHOLDER)


def read_object(data: bytes, hiding: Hiding) -> dict[str, Any]:
    """The JSON object in `data`. Raises ValueError, in words for people, where there is none to be trusted."""
    answer = read(data, hiding)
    if not isinstance(answer, dict):
        raise ValueError("the answer is no JSON object")
    return answer


def read(data: bytes, hiding: Hiding) -> Any:
    """Any JSON value. Raises ValueError as `read_object` does."""
    try:
        value = json.loads(data, parse_int=_whole) if _LONG_NUMBER.search(data) else json.loads(data)
    except RecursionError:
        raise ValueError(f"the answer nests more than {MAX_DEPTH} deep") from None
    except ValueError:
        raise ValueError("the answer is not JSON, or is cut short") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            break
    else:
        raise ValueError(f"the answer nests more than {MAX_DEPTH} deep")
    hide = hiding.in_answers(data)
    return value if hide is None else _without(value, hide)


def _whole(digits: str) -> int | float:
    """A number that fits 63 bits; of a longer one (tokenizers write 10**30 for "no limit") a float, which counts
    nothing and is no token."""
    return int(digits) if len(digits.lstrip("-")) <= DIGITS else float(digits)


def _without(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [_without(item, hide) for item in value]
    if isinstance(value, dict):
        return {hide(name): _without(item, hide) for name, item in value.items()}
    return value
