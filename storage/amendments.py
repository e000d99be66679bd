"""Constitutions, and the amendments that put them in force.

A constitution is a content: a version and a text that says it. An amendment is an event: who ratified which text, when,
why, and after which one. A to B and back to A is two amendments of one content. An amendment keeps the whole text of
its file, because comments, layout and titles are no part of a version, and are somebody's words all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from constitution.errors import UserError
from constitution.records import Event, canonical, text_digest
from storage import tables
from storage.database import patient
from storage.proposals import ACCEPTED, Proposals
from storage.runs import now

KIND = "ratification"
NAMES = ("ratified",)  # what else the amendment in force is called
FRESH = ""  # after nothing: what the first amendment of a store is made from


@dataclass(frozen=True, slots=True)
class Amendment:
    """A ratified text. `number` counts from 1; `parent` is the version that was in force before."""

    number: int
    version: str
    text: str  # the whole file, byte for byte
    parent: str | None
    at: str  # ISO 8601, UTC
    who: str
    message: str
    event: str  # id of the event that recorded it


class Superseded(UserError):
    """Somebody else ratified meanwhile; nothing was written. `now`: what is in force."""

    def __init__(self, now: Amendment | None) -> None:
        self.now = now
        by = f"{now.who} ratified amendment {now.number} meanwhile ({now.message})" if now else "nothing is ratified"
        super().__init__(f"{by}: nothing was changed; look at what it says, and amend that")


class Amendments(Proposals):
    @patient
    def put_constitution(self, version: str, text: str) -> None:
        """Keep a version's text. Any version may be tried; only a ratified one may be promoted under."""
        with self._write() as connection:
            self._put(connection, version, text)

    @patient
    def constitutions(self) -> dict[str, str]:
        """Texts by version, the oldest first."""
        table = tables.constitution
        with self._read() as connection:
            rows = connection.execute(select(table).order_by(table.c.created, table.c.version))
            return {row.version: row.text for row in rows}

    @patient
    def constitution(self, version: str) -> str | None:
        """The text of one version; None where it is not stored."""
        with self._read() as connection:
            return _text(connection, version)

    @patient
    def ratify(
        self,
        version: str,
        who: str,
        message: str,
        key: str,
        *,
        text: str | None = None,
        after: str | None = None,
        proposal: str = "",
    ) -> Event:
        """Put a version in force: one transaction, durable, that asks no model. The same key again is one amendment.

        `text`: the file that says it; the stored one where it is None. `after`: the event of the amendment this one
        was made from, FRESH where there was none; raises Superseded, and writes nothing, where another has come in
        between. None ratifies after whatever is in force. Raises UserError for a version that is not stored when no
        text is given.

        `proposal`: the one that is ratified by it, and closed in the same transaction; raises UserError where it is not
        open any more. A draft of `who` that says this text has done its work, and is dropped.
        """
        with self._write(durable=True, alone=True) as connection:
            last = _last(connection)
            earlier = self._find(connection, key)
            sent_again = earlier is not None and earlier.who == who
            if not sent_again and after is not None and (last.event if last else FRESH) != after:
                raise Superseded(last)
            if text is None:
                text = _text(connection, version)
                if text is None:
                    raise UserError(f"there is no constitution {version} in the store; check the version's name")
            self._put(connection, version, text)
            parent = earlier.payload.get("parent") if earlier else last.version if last else None
            payload = {"version": version, "parent": parent, "message": message, "text": text}
            event, new = self._append(connection, KIND, who, key, payload, target=version)
            if new:
                self._point(connection, "ratified", version, event)
            if proposal:
                self._close(connection, ACCEPTED, proposal, who, {"proposal": proposal, "amendment": event.id})
            mine = tables.draft.c.who == who, tables.draft.c.text == text
            connection.execute(delete(tables.draft).where(*mine))
            return event

    @patient
    def amendments(self) -> list[Amendment]:
        """Every amendment, the oldest first. The last one is in force."""
        with self._read() as connection:
            rows = connection.execute(_RATIFIED.order_by(tables.event.c.seq)).all()
            return [_amendment(connection, row, number) for number, row in enumerate(rows, 1)]

    @patient
    def ratified(self) -> Amendment | None:
        """The amendment in force; None in a fresh store."""
        with self._read() as connection:
            return _last(connection)

    @patient
    def is_ratified(self, version: str) -> bool:
        """Whether a version is or was in force."""
        with self._read() as connection:
            return connection.execute(_RATIFIED.where(tables.event.c.target == version).limit(1)).first() is not None

    @patient
    def amendment(self, revision: str) -> Amendment:
        """An amendment by its number, by the first hex digits of its version (at least 4; the last amendment that put
        it in force), or `ratified`. Raises UserError where there is none, or several versions fit."""
        event = tables.event.c
        with self._read() as connection:
            last = _last(connection)
            if last is None:
                raise UserError(
                    "nothing has been ratified yet: the first run, or `precept constitution amend`, ratifies a "
                    "constitution"
                )
            if revision in NAMES:
                return last
            if re.fullmatch("[0-9]{1,3}", revision) and 1 <= int(revision) <= last.number:
                query = _RATIFIED.order_by(event.seq).offset(int(revision) - 1).limit(1)
                return _amendment(connection, connection.execute(query).one(), int(revision))
            versions = connection.execute(select(event.target).where(event.kind == KIND).distinct()).scalars()
            fitting = [v for v in versions if len(revision) >= 4 and v.startswith(revision.lower())]
            if len(fitting) == 1:
                query = _RATIFIED.where(event.target == fitting[0]).order_by(event.seq.desc()).limit(1)
                return _numbered(connection, connection.execute(query).one())
        problem = "several versions begin with" if fitting else "there is no amendment"
        raise UserError(
            f"{problem} {revision!r}; write `ratified`, a number from 1 to {last.number}, or the first digits of a "
            "version: `precept constitution log` shows them"
        )

    def _put(self, connection: Connection, version: str, text: str) -> None:
        row = {"version": version, "text": text, "created": now()}
        self._insert_first_wins(connection, tables.constitution, [row])

    def _point(self, connection: Connection, name: str, target: str, event: Event) -> None:
        insert = self._insert(tables.pointer)
        new = {"target": insert.excluded.target, "event": insert.excluded.event}
        moved = insert.on_conflict_do_update(index_elements=["name"], set_=new)
        connection.execute(moved, {"name": name, "target": target, "event": event.id})


def amendment_key(after: str | None, text: str, message: str) -> str:
    """The key of an amendment: sent again, for example after a crash, it is the same one."""
    return f"amendment:{text_digest(canonical([after, text, message])).hex()}"


_RATIFIED = select(tables.event).where(tables.event.c.kind == KIND)


def _last(connection: Connection) -> Amendment | None:
    row = connection.execute(_RATIFIED.order_by(tables.event.c.seq.desc()).limit(1)).first()
    return None if row is None else _numbered(connection, row)


def _numbered(connection: Connection, row: Row[Any]) -> Amendment:
    event = tables.event.c
    until = select(func.count()).where(event.kind == KIND, event.seq <= row.seq)
    return _amendment(connection, row, connection.execute(until).scalar_one())


def _amendment(connection: Connection, row: Row[Any], number: int) -> Amendment:
    said = row.payload
    text = said.get("text") or _text(connection, said["version"])  # at first an amendment kept no text of its own
    assert text is not None, "a ratified version is in the store"
    return Amendment(
        number=number,
        version=said["version"],
        text=text,
        parent=said["parent"],
        at=row.at,
        who=row.who,
        message=said["message"],
        event=row.id,
    )


def _text(connection: Connection, version: str) -> str | None:
    table = tables.constitution.c
    text: str | None = connection.execute(select(table.text).where(table.version == version)).scalar()
    return text
