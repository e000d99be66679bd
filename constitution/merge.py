"""Two people amended one constitution: what each changed of it, and one text that holds both, where there is one.

Fields are compared by what they say, the text line by line as diff3 does (Khanna, Kunal and Pierce, "A formal
investigation of diff3", 2007), with one freedom: changes that only touch are both taken, because the merged text
counts only if it says what the merged fields say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

from constitution import loading
from constitution.blame import counterparts
from constitution.lines import Hunk, changed, hunks, join, split
from constitution.principles import Constitution, Principle
from constitution.problems import ConstitutionError

Side: TypeAlias = Literal["theirs", "yours", "both", "conflict"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One thing that was changed, and by whom: `both` alike, or `conflict` for both differently.

    `id` is the principle's in the base, or the new one's; empty for the file itself, whose only field is
    `constitution`, its name. `field` is empty where the whole principle was added or removed: the values are then
    Principles, or None where there is none. Weights are in thousandths.
    """

    id: str
    field: str
    side: Side
    base: Any
    theirs: Any
    yours: Any


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """Every edit, in the order of the base, then what was added. `merged` is the whole text with the changes of both,
    comments and layout kept; None where it has to be merged by hand: edits or lines conflict."""

    edits: tuple[Edit, ...]
    merged: str | None

    @property
    def conflicts(self) -> tuple[Edit, ...]:
        """The edits that somebody has to decide. There may be none although the lines conflict."""
        return tuple(edit for edit in self.edits if edit.side == "conflict")


def nearest(draft: str, texts: Sequence[str]) -> int:
    """The index of the text a draft was most probably made from: with the fewest changed lines, of equals the newest.

    `texts` are the oldest first. Raises ValueError when there are none.
    """
    lines = split(draft)
    distances = [changed(split(text), lines) for text in texts]
    return max(range(len(texts)), key=lambda index: (-distances[index], index))


def three_way(base: str, theirs: str, yours: str) -> ThreeWay:
    """What two texts made of one. Raises ConstitutionError for a text that is no constitution."""
    texts = {"base": base, "theirs": theirs, "yours": yours}
    old, their, your = (loading.parse(text, name) for name, text in texts.items())
    edits, principles = _merge_principles(old, their, your)
    if old.name != their.name or old.name != your.name:
        edits.insert(0, _edit("", "constitution", old.name, their.name, your.name))
    if any(edit.side == "conflict" for edit in edits):
        return ThreeWay(tuple(edits), None)
    name = your.name if their.name == old.name else their.name
    lines = _merge_lines(split(base), split(theirs), split(yours))
    merged = None if lines is None else join(lines, like=yours)
    return ThreeWay(tuple(edits), merged if _says(merged, name, principles) else None)


# --- principles and fields -----------------------------------------------------------------------------------------


def _merge_principles(
    base: Constitution, theirs: Constitution, yours: Constitution
) -> tuple[list[Edit], list[Principle]]:
    """The edits, and the principles with all of them made; these are right only when no edit is a conflict."""
    edits: list[Edit] = []
    merged: list[Principle] = []
    kept = counterparts(base, theirs), counterparts(base, yours)
    for old in base:
        their, your = kept[0].get(old.id), kept[1].get(old.id)
        if their is None or your is None:
            edits.append(_edit(old.id, "", old, their, your))
        else:
            found = list(_fields(old, their, your))
            edits += found
            values = {e.field: e.theirs if e.side in ("theirs", "both") else e.yours for e in found}
            merged.append(replace(old, **values))
    added = []
    for side, known in zip((theirs, yours), kept, strict=True):
        ids = {principle.id for principle in known.values()}
        added.append({principle.id: principle for principle in side if principle.id not in ids})
    for id in added[0] | added[1]:
        edits.append(_edit(id, "", None, added[0].get(id), added[1].get(id)))
        merged.append(added[1].get(id) or added[0][id])
    for id, count in Counter(p.id for p in merged).items():
        if count > 1:  # one renamed a principle to what the other called a new one
            of_that_id = (next((p for p in side if p.id == id), None) for side in (base, theirs, yours))
            edits.append(Edit(id, "id", "conflict", *of_that_id))
    return edits, merged


def _fields(base: Principle, theirs: Principle, yours: Principle) -> Iterator[Edit]:
    for name in (field.name for field in fields(Principle)):
        values = [getattr(principle, name) for principle in (base, theirs, yours)]
        if values[0] != values[1] or values[0] != values[2]:
            yield _edit(base.id, name, *values)


def _edit(id: str, field: str, base: Any, theirs: Any, yours: Any) -> Edit:
    """Whose edit it is. One of the three differs from another."""
    side: Side = "both" if theirs == yours else "yours" if theirs == base else "theirs" if yours == base else "conflict"
    return Edit(id, field, side, base, theirs, yours)


# --- lines ---------------------------------------------------------------------------------------------------------


def _merge_lines(base: list[str], theirs: list[str], yours: list[str]) -> list[str] | None:
    """The base with the hunks of both, theirs first where both put lines in one place; None where hunks overlap."""
    merged: list[str] = []
    done = 0
    for hunk in sorted(dict.fromkeys([*hunks(base, theirs), *hunks(base, yours)]), key=_place):
        if hunk.start < done:
            return None
        merged += base[done : hunk.start]
        merged += hunk.lines
        done = hunk.end
    return merged + base[done:]


def _place(hunk: Hunk) -> tuple[int, int]:
    return (hunk.start, hunk.end)


def _says(text: str | None, name: str, principles: list[Principle]) -> bool:
    """Whether the text is a constitution of that name and of these principles, in any order."""
    if text is None:
        return False
    try:
        said = loading.parse(text)
    except ConstitutionError:
        return False
    return said.name == name and {p.id: p for p in said} == {p.id: p for p in principles}
