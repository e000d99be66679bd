"""Annotated pairs, version 2: the JSON file in which Inverse Constitutional AI and Feedback Forensics keep comparisons
and what annotators (people, models, single principles) say of each (Findeis et al., arXiv 2406.06560).

    {"metadata": {"version": "2.0", "default_annotator": "h"}, "annotators": {"h": {"name": "Human", "type": "human"}},
     "comparisons": [{"id": "c", "prompt": "Why?", "response_a": {"text": "No."}, "response_b": {"text": "Because."},
                      "annotations": {"h": {"pref": "b"}}}]}

Reading gives the comparisons as rows, which `rows.py` and `known_pairs.py` take; writing takes what a run's judge, its
principles and people said. Files of version 1 (`text_a`, `text_b`) are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from constitution.records import Messages
from pipeline.sources import files, shapes

VERSION = "2.0"
# The id under which Feedback Forensics looks for the annotator that it measures all others against.
DEFAULT = "ba751e7b"
NO_ANNOTATOR = (
    "the file of annotated pairs does not say whose preferences are its own: name one in its 'metadata' as "
    "'default_annotator'"
)
PRINCIPLES = ("principle", "non_preference_principle")

Pref = Literal["a", "b"]
NoPref = Literal["not_applicable", "invalid", "both", "neither"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one annotator says of a comparison: the better answer, or why it names none. `p`: where it is known, the
    probability that `a` is the better."""

    pref: Pref | None
    why: NoPref | None = None
    p: float | None = None

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"pref": self.pref}
        if self.pref is None:
            found["no_pref_reason"] = self.why or "neither"
        return found if self.p is None else {**found, "p": self.p}


@dataclass(frozen=True, slots=True)
class Annotator:
    """`kind`: `human`, `ai` or `principle`. `more`: further keys, which other readers pass over."""

    id: str
    name: str
    description: str
    kind: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "type": self.kind, **self.more}


@dataclass(frozen=True, slots=True)
class Annotated:
    """A comparison with what was said of it, by annotator's id. `about`: texts for people, such as its split."""

    id: str
    messages: Messages
    a: str
    b: str
    said: Mapping[str, Said]
    about: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id, "prompt": prompt_of(self.messages),
            "response_a": {"text": self.a}, "response_b": {"text": self.b},
            "annotations": {name: said.as_dict() for name, said in self.said.items()}, "metadata": dict(self.about),
        }  # fmt: skip


def document(
    comparisons: Sequence[Annotated], annotators: Iterable[Annotator], *, default: str, **about: str
) -> dict[str, Any]:
    """The whole file. An annotator that said nothing of any comparison is left out: readers look for a column of
    each. `default`: the id of the one whose preferences are the file's own."""
    spoke = {name for comparison in comparisons for name in comparison.said}
    keys = sorted({key for comparison in comparisons for key in comparison.about})
    return {
        "metadata": {
            "version": VERSION, **about, "default_annotator": default,
            "available_metadata_keys_per_comparison": keys,
        },
        "annotators": {one.id: one.as_dict() for one in annotators if one.id in spoke},
        "comparisons": [comparison.as_dict() for comparison in comparisons],
    }  # fmt: skip


def prompt_of(messages: Messages) -> str | list[dict[str, str]]:
    """A dialogue as other readers take it, a text; where a text would not come back as it was, its messages."""
    turns = {"user": "Human", "assistant": "Assistant"}
    text = messages[0].content
    if len(messages) > 1 and all(m.role in turns for m in messages):
        text = "".join(f"\n\n{turns[m.role]}: {m.content}" for m in messages) + "\n\nAssistant:"
    try:
        if shapes.messages(text, "prompt") == messages:
            return text
    except ValueError:  # nothing but space
        pass
    return [{"role": m.role, "content": m.content} for m in messages]


# --- in ----------------------------------------------------------------------------------------------------------


def is_file(value: Any) -> bool:
    """Whether a value is a whole file of annotated pairs."""
    return isinstance(value, Mapping) and isinstance(value.get("comparisons"), list)


def rows_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The rows of a value, with their places in it: of a whole file of annotated pairs its comparisons, each with its
    `annotator`, the default one or the only one that is no principle."""
    if not is_file(value):
        yield "", value
        return
    about, annotators = value.get("metadata"), value.get("annotators")
    annotator = about.get("default_annotator") if isinstance(about, Mapping) else None
    if annotator is None and isinstance(annotators, Mapping):
        others = [
            name for name, one in annotators.items() if isinstance(one, Mapping) and one.get("type") not in PRINCIPLES
        ]
        annotator = others[0] if len(others) == 1 else None
    for at, comparison in enumerate(value["comparisons"], start=1):
        if isinstance(comparison, Mapping):
            comparison = {**comparison, "annotator": annotator}
        yield f", comparison {at}", comparison


def values(path: Path, names: Mapping[str, str] | None = None) -> Iterator[tuple[str, Any, str]]:
    """The rows of a file that may be one of annotated pairs: where each is, its value, and why there is none."""
    for row in files.rows(path):
        if row.problem:
            yield row.where(path), None, row.problem
            continue
        for at, value in rows_of(shapes.renamed(row.value, names or {})):
            yield row.where(path) + at, value, ""


def is_comparison(row: Any) -> bool:
    return isinstance(row, Mapping) and "response_a" in row and "annotations" in row


def as_ours(row: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison as a row of `prompt`, `a`, `b` and, where the file has an annotator for it, `winner`. Raises
    ValueError."""
    texts = []
    for name in ("response_a", "response_b"):
        held = row.get(name)
        text = held.get("text") if isinstance(held, Mapping) else held
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name!r} has to have a text")
        texts.append(text)
    about = {key: row[key] for key in ("tags", "source", "split") if key in row}
    found = {"prompt": row.get("prompt", ""), "a": texts[0], "b": texts[1], **about}
    annotations, annotator = row["annotations"], row.get("annotator")
    if not isinstance(annotations, Mapping):
        raise ValueError("'annotations' says by annotator what each prefers")
    if not isinstance(annotator, str):
        return found
    said = annotations.get(annotator)
    preferred = said.get("pref") if isinstance(said, Mapping) else said
    preferred = {"text_a": "a", "text_b": "b"}.get(preferred, preferred) if isinstance(preferred, str) else preferred
    return {**found, "winner": preferred if preferred in ("a", "b") else "tie"}
