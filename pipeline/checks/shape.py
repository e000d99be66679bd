"""Checks of an answer's shape: how long it is, whether it has headings or lists, how it ends, whether it is JSON.

A word is a run of letters, digits and marks, with the apostrophes and hyphens inside it; a language that is written
without spaces is counted in characters instead (`max_characters`). A sentence ends at `.`, `!`, `?` (or a full-width or
other such mark) before a blank, or at a line end: an abbreviation counts as one too many.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from constitution.records import Messages
from pipeline.checks.check import Check, Make, Wrong

MOST = 1_000_000_000  # of anything that is counted
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['\u2019\-\u2010\u2011]\w+)*")
_ENDS = ".!?\u2026\u3002\uff01\uff1f\u061f\u0964"  # and an ellipsis; full-width, Arabic and Devanagari marks
_CLOSING = "\"'\u201d\u2019\u00bb)]}*_`"
_SENTENCE = re.compile(rf"(?<=[{_ENDS}])[\"'\u201d\u2019\u00bb)\]*_]*\s+|[\u3002\uff01\uff1f]|\n+")
_HEADING = re.compile(
    r"^[ \t]{0,3}(?:#{1,6}[ \t]+\S|\*\*[^*\n]{1,200}\*\*:?[ \t]*$|\S.{0,200}\n[ \t]{0,3}(?:={3,}|-{3,})[ \t]*$)", re.M
)
_LIST = re.compile(r"^[ \t]*(?:[-*+•‣◦][ \t]+\S|\d{1,3}[.)][ \t]+\S)", re.M)
_ASKED = {
    "headings": re.compile(r"\b(?:headings?|headers?|titles?|sections?|markdown|outlines?|chapters?)\b", re.I),
    "lists": re.compile(
        r"\b(?:lists?|listed|bullets?|bulleted|numbered|points|steps?|step-by-step|markdown|outlines?|itemi[sz]ed?|"
        r"enumerate|table of)\b",
        re.I,
    ),
}


def words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def sentences(text: str) -> int:
    return sum(1 for part in _SENTENCE.split(text) if _WORD.search(part))


def characters(text: str) -> int:
    """As a reader counts them: composed, without the blanks around the text."""
    return len(unicodedata.normalize("NFC", text.strip()))


def ends_sentence(text: str) -> bool:
    """Whether it ends with a sentence's end, whatever quote, bracket or mark of emphasis is closed after it."""
    end = text.rstrip().rstrip(_CLOSING)
    return bool(end) and end[-1] in _ENDS


def has_headings(text: str) -> bool:
    """Lines that Markdown shows as headings, and lines that are bold from end to end."""
    return bool(_HEADING.search(text.replace("\r", "\n")))


def has_lists(text: str) -> bool:
    """Lines that begin with a bullet or a number."""
    return bool(_LIST.search(text.replace("\r", "\n")))


def _span(what: str, count: Callable[[str], int], least: bool) -> Make:
    def make(value: Any) -> Check:
        if type(value) is not int or value < (0 if least else 1):
            raise Wrong(f"{value!r} is no number of {what}", f"Write a whole number, {'0' if least else '1'} or more.")
        if value > MOST:  # thousands of digits are no number to compute with, nor to print
            raise Wrong(f"is more {what} than any answer has", f"Write a number up to {MOST:,}.")

        def kept(messages: Messages, answer: str) -> float:
            n = count(answer)
            return min(1.0, n / value) if least and value else 1.0 if least else min(1.0, value / max(1, n))

        return Check(f"{'at least' if least else 'at most'} {value:,} {what}", kept)

    return make


def _without(what: str, has: Callable[[str], bool]) -> Make:
    def make(value: Any) -> Check:
        if value not in ("none", "asked"):
            raise Wrong(
                f"{value!r} says nothing about {what}",
                "Write `none`, or `asked` for none but where the last user turn asks for them (in English).",
            )

        def kept(messages: Messages, answer: str) -> float:
            if value == "asked":
                asked = next((m.content for m in reversed(messages) if m.role == "user"), "")
                if _ASKED[what].search(asked):
                    return 1.0
            return float(not has(answer))

        return Check(f"no {what}" + (" unless they are asked for" if value == "asked" else ""), kept)

    return make


def _ends(value: Any) -> Check:
    if value is not True:
        raise Wrong(f"{value!r} is not true", "Write `true`, or leave it out.")
    return Check("ends with a whole sentence", lambda messages, answer: float(ends_sentence(answer)))


def _json(value: Any) -> Check:
    keys = [value] if isinstance(value, str) else value
    if keys is not True and not (isinstance(keys, list) and keys and all(isinstance(k, str) and k for k in keys)):
        raise Wrong(f"{value!r} is neither true nor names of keys", "Write `true`, or the keys that the object has.")
    wanted = set() if keys is True else set(keys)

    def kept(messages: Messages, answer: str) -> float:
        try:
            found = json.loads(answer, parse_constant=_no_constant)
        except (ValueError, RecursionError):  # an integer of 5,000 digits is a ValueError, too
            return 0.0
        return float(not wanted or (isinstance(found, dict) and wanted <= found.keys()))

    return Check("JSON" + (f" with {', '.join(sorted(wanted))}" if wanted else ""), kept)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_COUNTS: Mapping[str, Callable[[str], int]] = {"words": words, "sentences": sentences, "characters": characters}
KINDS: Mapping[str, Make] = {
    **{
        f"{side}_{what}": _span(what, count, side == "min")
        for what, count in _COUNTS.items()
        for side in ("min", "max")
    },
    "headings": _without("headings", has_headings),
    "lists": _without("lists", has_lists),
    "ends_sentence": _ends,
    "json": _json,
}
