"""Proposals to amend the constitution: who wants which text, and why; and what became of each.

Proposing and ratifying are two rights. A proposal is an event, and so is what becomes of it, once: it is ratified (in
the transaction that puts its text in force), declined, or taken back by who made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import Connection, delete, select

from constitution.errors import UserError
from constitution.records import Event, text_digest
from storage import tables
from storage.database import patient
from storage.events import Events

PROPOSED = "amendment_proposed"
State: TypeAlias = Literal["open", "ratified", "declined", "withdrawn"]
DECIDED: dict[str, State] = {
    "amendment_accepted": "ratified",
    "amendment_declined": "declined",
    "amendment_withdrawn": "withdrawn",
}
ACCEPTED, DECLINED, WITHDRAWN = DECIDED


@dataclass(frozen=True, slots=True)
class Proposal:
    """`base`: the event of the amendment that it was made from. `decided`: the event that closed it; None while it is
    open. Of a ratified one its payload names the amendment's event, of the others it says `why`."""

    event: Event
    decided: Event | None = None

    @property
    def id(self) -> str:
        return self.event.id

    @property
    def who(self) -> str:
        return self.event.who

    @property
    def text(self) -> str:
        return str(self.event.payload["text"])

    @property
    def base(self) -> str:
        return str(self.event.payload["after"])

    @property
    def message(self) -> str:
        return str(self.event.payload["message"])

    @property
    def state(self) -> State:
        return "open" if self.decided is None else DECIDED[self.decided.kind]

    @property
    def digest(self) -> str:
        return text_digest(self.text).hex()[:12]


class Proposals(Events):
    @patient
    def propose_amendment(self, who: str, version: str, text: str, after: str, message: str, key: str) -> Event:
        """Keep a proposal. The same key again is one; `after`: the event of the amendment it was made from. A draft of
        `who` that says this text has done its work, and is dropped."""
        payload = {"version": version, "text": text, "after": after, "message": message}
        with self._write(durable=True, alone=True) as connection:
            event = self._append(connection, PROPOSED, who, key, payload, target=version)[0]
            connection.execute(delete(tables.draft).where(tables.draft.c.who == who, tables.draft.c.text == text))
            return event

    def proposed_amendments(self) -> list[Proposal]:
        """Every proposal, the newest first."""
        found = self.events(PROPOSED, *DECIDED)
        decided = {str(e.payload["proposal"]): e for e in found if e.kind in DECIDED}
        return [Proposal(e, decided.get(e.id)) for e in reversed(found) if e.kind == PROPOSED]

    @patient
    def close_proposal(self, kind: str, proposal: str, who: str, why: str) -> Event:
        """Decline or withdraw an open proposal. The same again is one event. Raises UserError where it was closed
        otherwise, or there is none."""
        with self._write(durable=True, alone=True) as connection:
            return self._close(connection, kind, proposal, who, {"proposal": proposal, "why": why})

    def _close(self, connection: Connection, kind: str, proposal: str, who: str, payload: dict[str, str]) -> Event:
        query = select(tables.event.c.id).where(tables.event.c.id == proposal, tables.event.c.kind == PROPOSED)
        if connection.execute(query).first() is None:
            raise UserError("there is no such proposal")
        key = f"proposal:{proposal}"
        earlier = self._find(connection, key)
        if earlier is not None and (earlier.kind, earlier.who) != (kind, who):
            raise UserError(f"this proposal was {DECIDED[earlier.kind]} by {earlier.who} already: nothing was changed")
        if earlier is not None:
            return earlier
        return self._append(connection, kind, who, key, payload, target=proposal)[0]
