"""Checks of what an answer says: phrases, a pattern, a language, a function of the user's."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeAlias

from constitution.records import Messages
from pipeline import functions
from pipeline.checks import language
from pipeline.checks.check import Check, Make, Wrong, folded

Phrase: TypeAlias = re.Pattern[str]

LONGEST_PATTERN = 1_000  # characters
LONGEST_TEXT = 100_000  # characters of an answer that a pattern is looked for in; of a longer one nobody can tell
PATTERN_SECONDS = 0.5  # after which nobody can tell: only a pattern that backtracks without end takes as long
FUNCTION_SECONDS = 10.0


def _phrases(value: Any) -> list[Phrase]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(p, str) and folded(p) for p in found):
        raise Wrong(f"{value!r} is neither a phrase nor a list of phrases", 'Write "a phrase", or ["one", "another"].')
    return [_phrase(folded(phrase)) for phrase in found]


def _phrase(words: str) -> Phrase:
    """A phrase of whole words: "long" is not in "along"; but where its script has no spaces between words."""
    before = r"(?<!\w)" if _is_of_a_word(words[0]) else ""
    after = r"(?!\w)" if _is_of_a_word(words[-1]) else ""
    return re.compile(before + re.escape(words) + after)


def _is_of_a_word(character: str) -> bool:
    script = unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
    return character.isalnum() and script not in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER")


def _shown(value: Any, between: str = "or") -> str:
    return repr(value) if isinstance(value, str) else f" {between} ".join(map(repr, value))


def _contains(value: Any) -> Check:
    phrases = _phrases(value)

    def kept(messages: Messages, answer: str) -> float:
        text = folded(answer)
        return sum(bool(phrase.search(text)) for phrase in phrases) / len(phrases)

    return Check(f"says {_shown(value, 'and')}", kept)


def _contains_any(value: Any) -> Check:
    phrases = _phrases(value)

    def kept(messages: Messages, answer: str) -> float:
        text = folded(answer)
        return float(any(phrase.search(text) for phrase in phrases))

    return Check(f"says {_shown(value)}", kept)


def _lacks(value: Any) -> Check:
    phrases = _phrases(value)

    def kept(messages: Messages, answer: str) -> float:
        text = folded(answer)
        return sum(not phrase.search(text) for phrase in phrases) / len(phrases)

    return Check(f"does not say {_shown(value)}", kept)


def _begins_with(value: Any) -> Check:
    phrases = _phrases(value)

    def kept(messages: Messages, answer: str) -> float:
        text = folded(answer)
        return float(any(phrase.match(text) for phrase in phrases))

    return Check(f"begins with {_shown(value)}", kept)


def _ends_with(value: Any) -> Check:
    # anchored: to look for the phrase from the left would pass over the last "bye bye" of "bye bye bye"
    endings = [re.compile(phrase.pattern + r"\Z") for phrase in _phrases(value)]

    def kept(messages: Messages, answer: str) -> float:
        text = folded(answer)
        return float(any(ending.search(text) for ending in endings))

    return Check(f"ends with {_shown(value)}", kept)


def _pattern(wanted: bool) -> Make:
    def make(value: Any) -> Check:
        import regex

        if not isinstance(value, str) or not value:
            raise Wrong(f"{value!r} is no pattern", "Write a regular expression.")
        if len(value) > LONGEST_PATTERN:
            raise Wrong(f"is longer than {LONGEST_PATTERN:,} characters", "Write a shorter one, or a function.")
        try:
            pattern = regex.compile(value)
        except regex.error as error:
            raise Wrong(
                f"{value!r} is no regular expression: {error}", "Mend it; a backslash stands in 'single quotes'."
            ) from None
        except RecursionError:
            raise Wrong("nests too deep", "Write one with fewer brackets within brackets.") from None

        def kept(messages: Messages, answer: str) -> float | None:
            if len(answer) > LONGEST_TEXT:
                return None
            try:
                found = pattern.search(answer, timeout=PATTERN_SECONDS)
            except TimeoutError:
                return None
            return float((found is not None) == wanted)

        return Check(f"{'matches' if wanted else 'does not match'} {value!r}", kept)

    return make


def _language(value: Any) -> Check:
    codes = [value] if isinstance(value, str) else value
    if not isinstance(codes, list) or not codes or not all(isinstance(c, str) and c in language.KNOWN for c in codes):
        known = ", ".join(language.KNOWN)
        raise Wrong(f"{value!r} is no language that is known here", f"There are {known} (ISO 639-1).")

    def kept(messages: Messages, answer: str) -> float | None:
        found = language.of(answer)
        return None if found is None else float(found in codes)

    return Check(f"in {' or '.join(language.KNOWN[code] for code in codes)}", kept)


def _function(value: Any) -> Check:
    if not isinstance(value, str) or not functions.NAME.fullmatch(value):
        raise Wrong(f"{value!r} names no function", "Write package.module:function.")
    source = functions.source(value, "check")
    function: list[
        functions.Function
    ] = []  # imported when it is first asked: a constitution is read without running it
    lock = threading.Lock()

    def kept(messages: Messages, answer: str) -> float | None:
        with lock:
            if not function:
                function.append(functions.load(value, "check"))
        dialogue = [{"role": m.role, "content": m.content} for m in messages]
        found = functions.call(function[0], (dialogue, answer), f"check {value}", FUNCTION_SECONDS)
        return functions.share(found, f"check {value}")

    return Check(f"{value} holds", kept, source)


KINDS: Mapping[str, Make] = {
    "contains": _contains,
    "contains_any": _contains_any,
    "lacks": _lacks,
    "begins_with": _begins_with,
    "ends_with": _ends_with,
    "pattern": _pattern(True),
    "no_pattern": _pattern(False),
    "language": _language,
    "function": _function,
}
