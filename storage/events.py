"""Things that happened once: spot checks, their undoing, ratifications, promotions. Appended, never changed.

They are on disk, whatever the power does, before the call returns; a key that comes twice is one event.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import Connection, Row, select

from constitution.errors import UserError
from constitution.records import Event, Id, SpotAnswer, SpotCheck, canonical
from storage import tables
from storage.database import Database, patient
from storage.runs import now


def uuid7() -> str:
    """A UUID version 7 (RFC 9562): 48 bits of milliseconds, then random bits, so that ids sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0x3 << 62) | 2 << 62  # variant
    return str(uuid.UUID(int=value))


class Events(Database):
    @patient
    def add_event(self, kind: str, who: str, key: str, payload: Mapping[str, Any]) -> Event:
        """Append an event; the same key again returns the first. Raises UserError when that one said otherwise."""
        with self._write(durable=True) as connection:
            return self._append(connection, kind, who, key, payload)[0]

    @patient
    def events(self, *kinds: str) -> list[Event]:
        """Events of these kinds (of all when none is named), in the order they were stored."""
        with self._read() as connection:
            return history(connection, kinds)

    def add_spot_check(
        self, reviewer: str, comparison: Id, answer: SpotAnswer, *, reason: str = "", sampled_by: str, key: str
    ) -> SpotCheck:
        """Store what a reviewer answered about a comparison. It is on disk when this returns."""
        if answer not in get_args(SpotAnswer):
            raise ValueError(f"{answer!r} is not one of {get_args(SpotAnswer)}")
        payload = {"comparison": comparison.hex(), "answer": answer, "reason": reason, "sampled_by": sampled_by}
        return _spot_check(self._spot_check_event(reviewer, key, payload, comparison))

    @patient
    def _spot_check_event(self, reviewer: str, key: str, payload: Mapping[str, Any], about: Id) -> Event:
        with self._write(durable=True) as connection:
            return self._append(connection, "spot_check", reviewer, key, payload, about)[0]

    @patient
    def undo_spot_check(self, reviewer: str, event: str, key: str) -> Event:
        """Take back a spot check by the id of its event: another event, so the history keeps both."""
        with self._write(durable=True) as connection:
            standing = {check.event: check for check in _standing(history(connection, _SPOT_KINDS))}
            undone, new = self._append(connection, "spot_check_undone", reviewer, key, {"event": event})
            if new and (event not in standing or standing[event].reviewer != reviewer):
                raise UserError(f"{reviewer} has no standing answer {event} to undo")  # and nothing was written
            return undone

    def spot_checks(self) -> list[SpotCheck]:
        """The answers that stand: the last one of each reviewer about each comparison that was not undone."""
        return list({(c.reviewer, c.comparison): c for c in _standing(self.events(*_SPOT_KINDS))}.values())

    def _append(
        self,
        connection: Connection,
        kind: str,
        who: str,
        key: str,
        payload: Mapping[str, Any],
        about: Id | None = None,
    ) -> tuple[Event, bool]:
        """The event of this key, and whether it is new."""
        new = {"id": uuid7(), "kind": kind, "at": now(), "who": who, "key": key, "payload": payload, "about": about}
        self._insert_first_wins(connection, tables.event, [new])
        stored = self._find(connection, key)
        assert stored is not None
        said = (stored.kind, stored.who, canonical(stored.payload))
        if stored.id != new["id"] and said != (kind, who, canonical(payload)):
            raise UserError(f"the key {key!r} was used before, for something else; send this one under a new key")
        return stored, stored.id == new["id"]

    def _find(self, connection: Connection, key: str) -> Event | None:
        row = connection.execute(select(tables.event).where(tables.event.c.key == key)).first()
        return None if row is None else _event(row)


_SPOT_KINDS = ("spot_check", "spot_check_undone")


def history(connection: Connection, kinds: Sequence[str]) -> list[Event]:
    """Events of these kinds, or all, in the order they were stored."""
    query = select(tables.event).order_by(tables.event.c.seq)
    if kinds:
        query = query.where(tables.event.c.kind.in_(kinds))
    return [_event(row) for row in connection.execute(query)]


def _standing(history: Sequence[Event]) -> list[SpotCheck]:
    undone = {event.payload["event"] for event in history if event.kind == "spot_check_undone"}
    return [_spot_check(event) for event in history if event.kind == "spot_check" and event.id not in undone]


def _event(row: Row[Any]) -> Event:
    return Event(row.id, row.kind, row.at, row.who, row.key, row.payload)


def _spot_check(event: Event) -> SpotCheck:
    said = event.payload
    comparison = bytes.fromhex(said["comparison"])
    return SpotCheck(event.id, event.at, event.who, comparison, said["answer"], said["reason"], said["sampled_by"])
