"""Who amended the constitution, when, why, and what that changed: as a list of amendments, and line by line.

Going back to an earlier text is an action (`service/actions/restore.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constitution.difference import Change, Diff
    from storage.amendments import Amendment
    from storage.store import Store


@dataclass(frozen=True)
class Entry:
    """An amendment, and what it changed against the one before; `summary` says it in words."""

    amendment: Amendment
    summary: str
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        names = ("number", "version", "at", "who", "message", "parent", "event")
        return {
            **{name: getattr(self.amendment, name) for name in names},
            "summary": self.summary,
            "changes": [{"id": c.id, "kind": c.kind, "was": c.old.id if c.old else None} for c in self.changes],
        }


@dataclass(frozen=True)
class Line:
    """A line of a constitution's file, counted from 1, and the amendment that wrote it."""

    number: int
    text: str
    amendment: Amendment

    def as_dict(self) -> dict[str, Any]:
        by = self.amendment
        return {
            "line": self.number, "text": self.text, "amendment": by.number, "version": by.version, "who": by.who,
            "at": by.at, "message": by.message,
        }  # fmt: skip


def log(store: Store) -> list[Entry]:
    """Every amendment, the newest first."""
    from constitution import loading
    from constitution.difference import diff
    from constitution.markdown import summary
    from constitution.principles import Constitution

    entries: list[Entry] = []
    before: tuple[Amendment, Constitution] | None = None
    for amendment in store.amendments():
        new = loading.parse(amendment.text, f"amendment {amendment.number}")
        changes = tuple(diff(before[1], new).changes) if before else ()
        if before is None:
            words = f"the first: {len(new)} principle{'s' * (len(new) != 1)}"
        elif changes:
            words = summary(diff(before[1], new))
        else:
            words = "nothing" if before[0].text == amendment.text else "comments or layout"
        entries.append(Entry(amendment, words, changes))
        before = amendment, new
    return entries[::-1]


def blame(store: Store, revision: str = "ratified") -> list[Line]:
    """Each line of the file that was ratified then, with the amendment that wrote it. Raises UserError for a revision
    that there is not."""
    from constitution.blame import blame as trace

    past = store.amendments()[: store.amendment(revision).number]
    return [Line(number, at.line, past[at.index]) for number, at in enumerate(trace([a.text for a in past]), 1)]


def runs(lines: Sequence[Line]) -> list[tuple[Amendment, list[Line]]]:
    """Lines that follow one another and are of one amendment, together."""
    return [
        (some[0].amendment, some) for _, group in groupby(lines, lambda x: x.amendment.number) for some in [list(group)]
    ]


def of_principle(store: Store, id: str) -> list[Entry]:
    """The amendments that changed the principle that has this id now, under whatever id it had; the newest first."""
    found, names = [], {id}
    for entry in log(store):
        mine = [c for c in entry.changes if c.id in names or (c.old is not None and c.old.id in names)]
        names |= {c.old.id for c in mine if c.old is not None}
        if mine:
            found.append(Entry(entry.amendment, entry.summary, tuple(mine)))
    return found


def apart(store: Store, old: str, new: str) -> tuple[Amendment, Amendment, Diff]:
    """Two amendments and what differs. Raises UserError for a revision that there is not."""
    from constitution import loading
    from constitution.difference import diff

    one, other = store.amendment(old), store.amendment(new)
    texts = (loading.parse(a.text, f"amendment {a.number}") for a in (one, other))
    return one, other, diff(*texts)
