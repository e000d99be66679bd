"""Things that happened once: spot checks, their undoing, ratifications, promotions. Appended, never changed.

They are on disk, whatever the power does, before the call returns; a key that comes twice is one event. What each kind
says is written by the module of its noun.
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from constitution.errors import UserError
from constitution.records import Event, Id, canonical
from storage import tables
from storage.database import Database, patient
from storage.runs import now

LONGEST_KEY = 1000  # characters: a database indexes no more


def uuid7() -> str:
    """A UUID version 7 (RFC 9562) whose ids sort by time: 48 bits of milliseconds, 12 of their fraction (section 6.2,
    method 3), then random bits. Of two made in one process the later one is greater, whatever the clock does."""
    global _last
    with _lock:
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        _last = max(_last + 1, milliseconds << 12 | (rest << 12) // 1_000_000)
        at = _last
    value = (at >> 12) << 80 | 7 << 76 | (at & 0xFFF) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


_lock, _last = threading.Lock(), 0  # 60 bits: the time of the id that was made last


class Events(Database):
    @patient
    def events(self, *kinds: str) -> list[Event]:
        """Events of these kinds (of all when none is named), in the order they were stored."""
        query = select(tables.event).order_by(tables.event.c.seq)
        if kinds:
            query = query.where(tables.event.c.kind.in_(kinds))
        with self._read() as connection:
            return [event_of(row) for row in connection.execute(query)]

    @patient
    def event(self, *, key: str) -> Event | None:
        """What was stored under a key; None where nothing was."""
        with self._read() as connection:
            return self._find(connection, key)

    def _append(
        self,
        connection: Connection,
        kind: str,
        who: str,
        key: str,
        payload: Mapping[str, Any],
        *,
        about: Id | None = None,
        target: str | None = None,
    ) -> tuple[Event, bool]:
        """The event of this key, and whether it is new. Raises UserError when the key's event said otherwise."""
        if len(key) > LONGEST_KEY:
            raise UserError(f"a key has at most {LONGEST_KEY} characters")
        said = {"kind": kind, "who": who, "payload": payload, "about": about, "target": target}
        new = {"id": uuid7(), "at": now(), "key": key, **said}
        self._insert_first_wins(connection, tables.event, [new])
        stored = self._find(connection, key)
        assert stored is not None
        if stored.id == new["id"]:
            return stored, True
        if (stored.kind, stored.who, canonical(stored.payload)) != (kind, who, canonical(payload)):
            raise UserError(f"the key {key!r} was used before, for something else; send this one under a new key")
        return stored, False

    def _find(self, connection: Connection, key: str) -> Event | None:
        row = connection.execute(select(tables.event).where(tables.event.c.key == key)).first()
        return None if row is None else event_of(row)


def event_of(row: Row[Any]) -> Event:
    return Event(row.id, row.kind, row.at, row.who, row.key, row.payload)
