"""What was decided and is read whole: which checkpoint is promoted or proposed, documents, canaries.

A checkpoint is a content; promoting it is an event, and moves a pointer in the same transaction. Proposing one is an
event that moves nothing: it waits for a person until something is promoted, rolled back, proposed or withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from constitution.errors import UserError
from constitution.records import Checkpoint, Event, text_digest
from storage import tables
from storage.amendments import Amendments
from storage.checkpoints import Checkpoints
from storage.database import patient
from storage.runs import now

PROMOTION_KINDS = ("promotion", "roll_back")
PROPOSAL, WITHDRAWN = "proposal", "proposal_withdrawn"


class Registry(Amendments, Checkpoints):
    # --- promotion ---

    @patient
    def promote(
        self, checkpoint: Checkpoint, who: str, why: str, key: str, evidence: Mapping[str, Any] | None = None
    ) -> Event:
        """Make a stored policy the promoted one. `evidence`: the decision's reasons and evaluation.

        Raises UserError where its labels were made under a constitution that was never ratified.
        """
        self._check_may_be_promoted(checkpoint)
        payload = _about(checkpoint, why, evidence)
        with self._write(durable=True, alone=True) as connection:
            event, new = self._append(connection, "promotion", who, key, payload, target=checkpoint.digest)
            if new:
                self._point(connection, "promoted", checkpoint.digest, event)
            return event

    def before_promoted(self) -> Checkpoint | None:
        """What `roll_back` would promote: what was promoted before what is promoted now, or None."""
        with self._read() as connection:
            stack = _promoted_stack(connection)
            return self._by_digest(connection, stack[-2]) if len(stack) > 1 else None

    @patient
    def roll_back(self, who: str, why: str, key: str) -> Checkpoint:
        """Promote what was promoted before; again, what was before that. Returns what is promoted now."""
        with self._write(durable=True, alone=True) as connection:
            earlier = self._find(connection, key)
            if earlier is None:
                stack = _promoted_stack(connection)
                if len(stack) < 2:
                    raise UserError("there is no earlier promotion to roll back to")
                payload = {"from": stack[-1], "to": stack[-2], "why": why}
            else:
                payload = {**earlier.payload, "why": why}
            event, new = self._append(connection, "roll_back", who, key, payload, target=payload["to"])
            if new:
                self._point(connection, "promoted", payload["to"], event)
            return self._by_digest(connection, payload["to"])

    def promotions(self) -> list[Event]:
        """Every promotion and roll-back, the oldest first."""
        return self.events(*PROMOTION_KINDS)

    @patient
    def propose(
        self, checkpoint: Checkpoint, who: str, why: str, key: str, evidence: Mapping[str, Any] | None = None
    ) -> Event:
        """Offer a stored policy for promotion, for a person to decide on; nothing moves. Raises as `promote` does."""
        self._check_may_be_promoted(checkpoint)
        payload = _about(checkpoint, why, evidence)
        with self._write(durable=True, alone=True) as connection:
            return self._append(connection, PROPOSAL, who, key, payload, target=checkpoint.digest)[0]

    @patient
    def withdraw_proposal(self, who: str, why: str, key: str) -> None:
        """What is proposed is no more; nothing where nothing is."""
        if (open := self.proposal()) is None or self.event(key=key) is not None:
            return
        with self._write(durable=True, alone=True) as connection:
            self._append(connection, WITHDRAWN, who, key, {"why": why}, target=open.payload["digest"])

    def proposal(self) -> Event | None:
        """The proposal that waits for a person: none where the last word was a promotion, a roll-back or a
        withdrawal."""
        words = self.events(*PROMOTION_KINDS, PROPOSAL, WITHDRAWN)
        return words[-1] if words and words[-1].kind == PROPOSAL else None

    def _check_may_be_promoted(self, checkpoint: Checkpoint) -> None:
        if checkpoint.kind != "policy":
            raise UserError(f"only a policy can be promoted; {checkpoint.path} is a {checkpoint.kind}")
        if checkpoint.constitution is not None and not self.is_ratified(checkpoint.constitution):
            raise UserError(
                f"{checkpoint.path} was made under constitution {checkpoint.constitution}, which is not ratified; "
                "ratify it first"
            )

    # --- documents and canaries ---

    @patient
    def put_document(self, kind: str, id: str, payload: Any) -> Any:
        """Keep a record that is read whole (an evaluation, a decision); returns the first that was stored."""
        with self._write() as connection:
            row = {"kind": kind, "id": id, "payload": self._kept_record(payload), "created": now()}
            self._insert_first_wins(connection, tables.document, [row])
            return self._found_record(_document(connection, kind, id))

    @patient
    def document(self, kind: str, id: str) -> Any:
        """A stored document, or None."""
        with self._read() as connection:
            return self._found_record(_document(connection, kind, id))

    @patient
    def documents(self, kind: str) -> dict[str, Any]:
        """All documents of a kind by id, the oldest first."""
        table = tables.document.c
        with self._read() as connection:
            query = select(tables.document).where(table.kind == kind).order_by(table.created, table.id)
            return {row.id: self._found_record(row.payload) for row in connection.execute(query)}

    @patient
    def canaries(self, engine: str, answers: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        """Of each prompt the label log-probabilities that this engine gave when it was first asked; new prompts are
        remembered with the ones given. The caller compares within a tolerance: they are never hashed."""
        rows = [
            {"engine": engine, "prompt": text_digest(prompt), "logprobs": dict(logprobs)}
            for prompt, logprobs in answers.items()
        ]
        with self._write() as connection:
            self._insert_first_wins(connection, tables.canary, rows)
            query = select(tables.canary).where(tables.canary.c.engine == engine)
            stored = {row.prompt: row.logprobs for row in connection.execute(query)}
        return {prompt: stored[text_digest(prompt)] for prompt in answers}


def _about(checkpoint: Checkpoint, why: str, evidence: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"id": checkpoint.id.hex(), "digest": checkpoint.digest, "why": why, "evidence": dict(evidence or {})}


def _promoted_stack(connection: Connection) -> list[str]:
    """Digests that were promoted and not rolled back; the last is promoted now. What is promoted already and promoted
    again stands once, so that rolling back leaves it. (Roll-backs that are stored from when it stood twice went to
    where they came from: they take nothing away.)"""
    event = tables.event.c
    query = select(event.kind, event.target).where(event.kind.in_(PROMOTION_KINDS)).order_by(event.seq)
    stack: list[str] = []
    for kind, digest in connection.execute(query):
        if stack[-1:] == [digest]:
            continue
        if kind == "promotion":
            stack.append(digest)
        else:
            stack.pop()
    return stack


def _document(connection: Connection, kind: str, id: str) -> Any:
    table = tables.document.c
    return connection.execute(select(table.payload).where(table.kind == kind, table.id == id)).scalar()
