"""Constitutions, and the amendments that put them in force.

A constitution is a content: a version and a text that says it. An amendment is an event: who ratified which text, when,
why, and after which one. A to B and back to A is two amendments of one content. An amendment keeps the whole text of
its file, because comments, layout and titles are no part of a version, and are somebody's words all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from constitution.errors import UserError
from constitution.records import Event, canonical, text_digest
from storage import tables
from storage.database import patient
from storage.events import Events, history
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


class Amendments(Events):
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
    def ratify(
        self, version: str, who: str, message: str, key: str, *, text: str | None = None, after: str | None = None
    ) -> Event:
        """Put a version in force: one transaction, durable, that asks no model. The same key again is one amendment.

        `text`: the file that says it; the stored one where it is None. `after`: the event of the amendment this one
        was made from, FRESH where there was none; raises Superseded, and writes nothing, where another has come in
        between. None ratifies after whatever is in force. Raises UserError for a version that is not stored when no
        text is given.
        """
        with self._write(durable=True, alone=True) as connection:
            past = _amendments(connection)
            earlier = self._find(connection, key)
            sent_again = earlier is not None and earlier.who == who
            if not sent_again and after is not None and (past[-1].event if past else FRESH) != after:
                raise Superseded(past[-1] if past else None)
            if text is None:
                table = tables.constitution.c
                text = connection.execute(select(table.text).where(table.version == version)).scalar()
                if text is None:
                    raise UserError(f"there is no constitution {version} in the store; check the version's name")
            self._put(connection, version, text)
            parent = earlier.payload.get("parent") if earlier else past[-1].version if past else None
            payload = {"version": version, "parent": parent, "message": message, "text": text}
            event, new = self._append(connection, KIND, who, key, payload)
            if new:
                self._point(connection, "ratified", version, event)
            return event

    @patient
    def amendments(self) -> list[Amendment]:
        """Every amendment, the oldest first. The last one is in force."""
        with self._read() as connection:
            return _amendments(connection)

    def ratified(self) -> Amendment | None:
        """The amendment in force; None in a fresh store."""
        past = self.amendments()
        return past[-1] if past else None

    def is_ratified(self, version: str) -> bool:
        """Whether a version is or was in force."""
        return any(past.version == version for past in self.amendments())

    def amendment(self, revision: str) -> Amendment:
        """An amendment by its number, by the first hex digits of its version (at least 4; the last amendment that put
        it in force), or `ratified`. Raises UserError where there is none, or several versions fit."""
        past = self.amendments()
        if not past:
            raise UserError("nothing has been ratified yet: the first run, or `precept amend`, ratifies a constitution")
        if revision in NAMES:
            return past[-1]
        if re.fullmatch("[0-9]{1,3}", revision) and 1 <= int(revision) <= len(past):
            return past[int(revision) - 1]
        fitting = {a.version: a for a in past if len(revision) >= 4 and a.version.startswith(revision.lower())}
        if len(fitting) == 1:
            return next(iter(fitting.values()))
        problem = "several versions begin with" if fitting else "there is no amendment"
        raise UserError(
            f"{problem} {revision!r}; write `ratified`, a number from 1 to {len(past)}, or the first digits of a "
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


def _amendments(connection: Connection) -> list[Amendment]:
    events = history(connection, (KIND,))
    texts: dict[str, Any] = {}
    if any("text" not in event.payload for event in events):  # ratified before amendments kept their text
        table = tables.constitution.c
        texts = {row.version: row.text for row in connection.execute(select(table.version, table.text))}
    return [
        Amendment(
            number=number,
            version=event.payload["version"],
            text=event.payload.get("text") or texts[event.payload["version"]],
            parent=event.payload["parent"],
            at=event.at,
            who=event.who,
            message=event.payload["message"],
            event=event.id,
        )
        for number, event in enumerate(events, 1)
    ]
