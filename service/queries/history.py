"""Who amended the constitution, when, why, and what that changed: as a list of amendments, and line by line.

Going back to an earlier text is an action (`service/actions/restore.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constitution.difference import Change
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
