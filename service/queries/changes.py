"""A difference of two constitutions for people: of each change both sides in words, and what it costs.

Shown by `precept constitution diff` and `amend`, and by the pages. Nothing is coloured or escaped here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from constitution.difference import Change, Diff
from constitution.merge import Edit, ThreeWay
from constitution.principles import Principle

SHOWN = (
    "title", "critique", "revision", "comparison", "weight", "why", "tier", "hard", "overridable", "judge", "when",
)  # fmt: skip
SHORT = 90  # characters of a value in a three-way difference
WHO = {"theirs": "they changed", "yours": "you changed", "both": "both changed alike", "conflict": "both changed"}


@dataclass(frozen=True)
class Side:
    """A field that differs, in words; empty on the side that lacks it."""

    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Told:
    """One edit of a three-way difference: who made it, of what, and what each side says."""

    side: str
    who: str
    what: str
    base: str
    theirs: str
    yours: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "side": self.side, "what": self.what, "before": self.base, "theirs": self.theirs, "yours": self.yours,
        }  # fmt: skip


def name(change: Change) -> str:
    return f"{change.old.id} -> {change.id}" if change.kind == "renamed" and change.old else change.id


def sides(change: Change) -> list[Side]:
    """Words before and after of each field that differs; of a principle that came or went, of all that it says."""
    rows = (Side(name, field(change.old, name), field(change.new, name)) for name in change.fields or SHOWN)
    return [row for row in rows if row.field != "id" and (row.before or row.after)]


def field(principle: Principle | None, name: str) -> str:
    if principle is None:
        return ""
    value = principle.as_dict()[name]
    if isinstance(value, str):
        return value
    if name in ("exemplars", "examples"):  # whole dialogues: what they say is in --markdown, and in the files
        return f"{len(value)} {name}"
    if not value:  # what most principles do without is not shown as null, false and []
        return ""
    return json.dumps(value, ensure_ascii=False)


def cost(change: Change) -> str:
    """Who has to be asked because of it."""
    if change.kind == "removed":
        return "costs no call; only its own draws move"
    asked = [
        *(["the judge is asked anew"] if change.asks_judge else []),
        *(["code checks every pair anew, which asks no model"] if change.runs_checks else []),
        *(["critiques and revisions are written anew where it is drawn"] if change.asks_critic else []),
        *(["draws move to it"] if change.kind == "added" else []),
        *(["its draws move"] if change.kind == "renamed" else []),
    ]
    return "; ".join(asked) or "costs no call"


def asked(result: Diff) -> list[str]:
    """Of the whole: what the judge and the checks are asked anew, in sentences."""
    if result.same_version:
        return ["Same version: no model reads anything else."]
    if not result.judged_anew:
        return ["The judge is asked nothing anew: labels follow from the verdicts there are."]
    judge, code, of = len(result.asks_judge), len(result.runs_checks), len(result.new)
    return [
        *([f"The judge is asked anew on {judge} of {of} principles."] if judge else []),
        *([f"Code checks {code} of {of} principles anew, which asks no model."] if code else []),
    ]


def told(found: ThreeWay) -> list[Told]:
    """What they changed since a draft's base, what you changed, and where both did."""
    return [
        Told(edit.side, WHO[edit.side], _what(edit), *(short(value) for value in (edit.base, edit.theirs, edit.yours)))
        for edit in found.edits
    ]


def _what(edit: Edit) -> str:
    return " ".join(part for part in (edit.id or "the file's name", edit.field) if part)


def short(value: Any) -> str:
    if value is None:
        return "(not there)"
    text = value.comparison if hasattr(value, "comparison") else str(value)
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"
