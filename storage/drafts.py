"""Drafts of the constitution: what somebody is writing, one each, until it is put in force or thrown away.

The only rows beside pointers that change: nobody else reads a draft's text, and no record is made of what was typed
and taken back. What is proposed or ratified of it is an event, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, select

from constitution.records import text_digest
from storage import tables
from storage.database import Database, patient
from storage.runs import now


@dataclass(frozen=True, slots=True)
class Draft:
    """`base`: the event of the amendment that it was begun from; empty where nothing was in force."""

    who: str
    text: str
    base: str
    at: str  # of its last change; ISO 8601, UTC

    @property
    def digest(self) -> str:
        """Of its text, as previews name a draft: 12 hex digits."""
        return text_digest(self.text).hex()[:12]


class Drafts(Database):
    @patient
    def draft(self, who: str) -> Draft | None:
        with self._read() as connection:
            row = connection.execute(select(tables.draft).where(tables.draft.c.who == who)).first()
            return None if row is None else _draft(row)

    @patient
    def drafts(self) -> list[Draft]:
        """Everybody's, the one changed last first."""
        with self._read() as connection:
            rows = connection.execute(select(tables.draft).order_by(tables.draft.c.at.desc(), tables.draft.c.who))
            return [_draft(row) for row in rows]

    @patient
    def put_draft(self, who: str, text: str, base: str, seen: str | None = None) -> tuple[Draft, bool]:
        """Keep somebody's draft instead of the one before, and say whether it was. `seen`: the digest of the draft that
        the writer began from; where another one is stored by now (a second window), that one stays and is returned.
        None writes over whatever is there."""
        with self._write(durable=True, alone=True) as connection:
            row = connection.execute(select(tables.draft).where(tables.draft.c.who == who)).first()
            kept = None if row is None else _draft(row)
            if kept is not None and (kept.text, kept.base) == (text, base):
                return kept, True
            if kept is not None and seen is not None and kept.digest != seen and kept.text != text:
                return kept, False
            new: Mapping[str, Any] = {"text": text, "base": base, "at": now()}
            insert = self._insert(tables.draft)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["who"], set_=dict(new)), {"who": who, **new}
            )
            return Draft(who, text, base, new["at"]), True

    @patient
    def drop_draft(self, who: str) -> None:
        with self._write() as connection:
            connection.execute(delete(tables.draft).where(tables.draft.c.who == who))


def _draft(row: Row[Any]) -> Draft:
    return Draft(row.who, row.text, row.base, row.at)
