"""Prompts that a model makes: what is kept of its texts, and why the rest is not.

A small model copies its examples, says the same again or goes on with another rule. A text is kept where it is one
message, as long as a message is, that is neither an example's nor (nearly) one that is kept already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.copies import is_copy, words
from pipeline.engines.engine import Sampling
from pipeline.nearest import nearest

TEMPERATURE, TOP_P = 0.7, 0.9  # at most: a small model that is sampled at 1 writes word salad
LONGEST = 120  # tokens: a prompt is no essay
LEAST, MOST = 4, 80  # words of a prompt
DISTINCT = 0.5  # share of a prompt's words that have to differ: a model that cannot write repeats itself
NEAR = 0.85  # cosine by words from which on two prompts are nearly the same

_ABOUT = re.compile(
    r"\brules? [12]\b|\b(first|second|two|these) rules?\b|\b(this|your|the|each) repl(y|ies|ied)\b", re.I
)
_NOISE = re.compile(r"(\b\w+\b)(\W+\1\b){2}|[,;:]{2,}", re.I)  # a word three times in a row, marks that follow marks
_LABEL = re.compile(
    r"^\s*(?:[-*>]\s*|\d+[.)]\s+)?(?:(?:message|prompt|user|human|request|question)\s*\d*\s*:\s*)?", re.I
)
_AFTER = re.compile(
    r"\n\s*\n|\n\s*(?:rule|message|topic|prompt|assistant|user|human|answer|reply|response)\s*\d*\s*:", re.I
)
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u00ab": "\u00bb"}


@dataclass(frozen=True)
class Made:
    """`texts`: what is kept, in the order in which it came, with its place in what was made. `dropped`: by reason."""

    texts: Sequence[tuple[int, str]] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """What was left out, in words; empty for nothing."""
        return ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())


def clean(text: str) -> str:
    """The message in what a model wrote: its first paragraph, without a label or quotes around it."""
    text = _LABEL.sub("", text.strip(), count=1)
    text = _AFTER.split(text, maxsplit=1)[0].strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return " ".join(text.replace('"', "").split() if text.count('"') == 1 else text.split())


def calm(sampling: Sampling) -> Sampling:
    """A role's sampling, as prompts are made with."""
    return replace(
        sampling,
        temperature=min(sampling.temperature, TEMPERATURE),
        top_p=min(sampling.top_p, TOP_P),
        max_tokens=min(sampling.max_tokens, LONGEST),
    )


def whole(text: str, cut: bool) -> str | None:
    """A text, or None where it was cut in the midst of the message that `clean` would leave of it."""
    return None if cut and not _AFTER.search(text.strip()) else text


def keep(texts: Sequence[str | None], examples: Sequence[str], known: Sequence[str] = ()) -> Made:
    """What is kept of the texts. None: a text that was refused or cut. `examples`: what the model was shown, `known`:
    prompts that are there already."""
    kept: list[tuple[int, str]] = []
    dropped: Counter[str] = Counter()
    for place, text in enumerate(texts):
        said = clean(text) if text is not None else ""
        why = "cut or refused" if text is None else _wrong(said, examples, [*known, *(one for _, one in kept)])
        if why:
            dropped[why] += 1
        else:
            kept.append((place, said))
    return Made(kept, dict(dropped))


def _wrong(text: str, examples: Sequence[str], kept: Sequence[str]) -> str:
    count = len(words(text))
    if count < LEAST:
        return "too short"
    if count > MOST:
        return "too long"
    if len(set(words(text))) < DISTINCT * count or _NOISE.search(text):
        return "no sentence"
    if _ABOUT.search(text):
        return "about the request itself"
    if any(is_copy(text, one) for one in examples):
        return "copied from an example"
    if any(words(text) == words(one) for one in kept):
        return "said twice"
    near = nearest(text, kept, 1)
    if (near and near[0][1] >= NEAR) or any(is_copy(text, one, held=False) for one in kept):
        return "nearly said twice"
    return ""
