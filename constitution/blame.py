"""Who wrote what: each line, and each field of each principle, traced through the texts that were in force.

Texts are given oldest first and named by their index. Lines are compared as written; fields by what they say, so a
text that was only laid out anew wrote none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from constitution import loading
from constitution.difference import diff
from constitution.lines import matches, split
from constitution.principles import Constitution, Principle

READ = (  # by a model, or in a label
    "critique", "revision", "comparison", "exemplars", "weight",
    "why", "tier", "hard", "overridable", "judge", "when",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blamed:
    """A line, without its break, and the index of the text that wrote it."""

    line: str
    index: int


def blame(texts: Sequence[str]) -> list[Blamed]:
    """Each line of the last text. A line that was removed and brought back belongs to the text that brought it back."""
    lines: list[str] = []
    writers: list[int] = []
    for index, text in enumerate(texts):
        new = split(text)
        wrote = [index] * len(new)
        for i, j, length in matches(lines, new):
            wrote[j : j + length] = writers[i : i + length]
        lines, writers = new, wrote
    return [Blamed(line, index) for line, index in zip(lines, writers, strict=True)]


def blame_principles(texts: Sequence[str]) -> dict[str, dict[str, int]]:
    """By principle of the last text and field, the index of the text that last changed the field's value.

    A principle that keeps its words under another id is followed (its `id` was then changed). Raises
    ConstitutionError for a text that is no constitution.
    """
    names = [field.name for field in fields(Principle)]
    parsed: dict[str, Constitution] = {}  # amendments go back and forth between the same texts
    now: Constitution | None = None
    wrote: dict[str, dict[str, int]] = {}
    for index, text in enumerate(texts):
        if text not in parsed:
            parsed[text] = loading.parse(text)
        new = parsed[text]
        before, wrote = wrote, {principle.id: dict.fromkeys(names, index) for principle in new}
        if now is not None:
            for old, principle in counterparts(now, new).items():
                kept = [name for name in names if getattr(principle, name) == getattr(now[old], name)]
                wrote[principle.id] |= {name: before[old][name] for name in kept}
        now = new
    return wrote


def authors(texts: Sequence[str]) -> dict[str, int]:
    """By principle of the last text, the index of the text that last changed anything a model reads or weighs of it.

    Titles, tags, examples and a new id make nobody its author. Raises ConstitutionError.
    """
    return {id: max(wrote[name] for name in READ) for id, wrote in blame_principles(texts).items()}


def counterparts(old: Constitution, new: Constitution) -> dict[str, Principle]:
    """By id of the old constitution, what became of the principle in the new one; those removed are left out."""
    ids = {principle.id for principle in old}
    renamed = {c.old.id: c.new for c in diff(old, new).renamed if c.old and c.new}
    return {principle.id: principle for principle in new if principle.id in ids} | renamed
