"""What was made and decided: checkpoints and which is promoted, documents, canaries.

A checkpoint is a content; promoting it is an event, and moves a pointer in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, Row, select, update

from constitution.errors import UserError
from constitution.records import Checkpoint, Event, Id, text_digest
from storage import tables
from storage.amendments import Amendments
from storage.database import patient
from storage.events import history
from storage.runs import now


class Registry(Amendments):
    # --- checkpoints ---

    @patient
    def add_checkpoint(self, checkpoint: Checkpoint, run: Id | None = None) -> None:
        """Register a checkpoint folder that is whole. The same weights made again may lie elsewhere: the new path
        counts, because the old folder was lost."""
        row = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
        table = tables.checkpoint
        mine = (table.c.id == checkpoint.id, table.c.digest == checkpoint.digest)
        with self._write() as connection:
            self._insert_first_wins(connection, table, [row | {"run": run, "created": now()}])
            connection.execute(update(table).where(*mine).values(path=checkpoint.path))

    @patient
    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, the oldest first."""
        table = tables.checkpoint
        with self._read() as connection:
            rows = connection.execute(select(table).order_by(table.c.created, table.c.id, table.c.digest))
            return [_checkpoint(row) for row in rows]

    def checkpoint(self, name: Id | str) -> Checkpoint:
        """A checkpoint by its job's id, the first hex digits of id or digest, its folder's path or last name, or
        `promoted`. Of several attempts at one job the last counts. Raises UserError where none or several fit."""
        if name == "promoted":
            promoted = self.promoted()
            if promoted is None:
                raise UserError("nothing is promoted yet; `precept promote CHECKPOINT` does it")
            return promoted
        text = name.hex() if isinstance(name, bytes) else name
        attempts = {c.id: c for c in self.checkpoints() if _answers_to(c, text)}
        if len(attempts) == 1:
            return next(iter(attempts.values()))
        if not attempts:
            raise UserError(f"there is no checkpoint {text!r} in the store; `precept train` makes them")
        names = ", ".join(c.id.hex()[:12] for c in list(attempts.values())[:5])
        raise UserError(f"several checkpoints answer to {text!r} ({names}); write more of the id")

    # --- promotion ---

    @patient
    def promote(
        self, checkpoint: Checkpoint, who: str, why: str, key: str, evidence: Mapping[str, Any] | None = None
    ) -> Event:
        """Make a stored policy the promoted one. `evidence`: the decision's reasons and evaluation.

        Raises UserError where its labels were made under a constitution that was never ratified.
        """
        if checkpoint.kind != "policy":
            raise UserError(f"only a policy can be promoted; {checkpoint.path} is a {checkpoint.kind}")
        if checkpoint.constitution is not None and not self.is_ratified(checkpoint.constitution):
            raise UserError(
                f"{checkpoint.path} was made under constitution {checkpoint.constitution}, which is not ratified; "
                "ratify it first"
            )
        payload = {"id": checkpoint.id.hex(), "digest": checkpoint.digest, "why": why, "evidence": dict(evidence or {})}
        with self._write(durable=True, alone=True) as connection:
            event, new = self._append(connection, "promotion", who, key, payload)
            if new:
                self._point(connection, "promoted", checkpoint.digest, event)
            return event

    @patient
    def roll_back(self, who: str, why: str, key: str) -> Checkpoint:
        """Promote what was promoted before; again, what was before that. Returns what is promoted now."""
        with self._write(durable=True, alone=True) as connection:
            earlier = self._find(connection, key)
            if earlier is None:
                stack = _promoted_stack(history(connection, _PROMOTION_KINDS))
                if len(stack) < 2:
                    raise UserError("there is no earlier promotion to roll back to")
                payload = {"from": stack[-1], "to": stack[-2], "why": why}
            else:
                payload = {**earlier.payload, "why": why}
            event, new = self._append(connection, "roll_back", who, key, payload)
            if new:
                self._point(connection, "promoted", payload["to"], event)
            return _by_digest(connection, payload["to"])

    @patient
    def promoted(self) -> Checkpoint | None:
        """The checkpoint that a server should run."""
        with self._read() as connection:
            digest = _target(connection, "promoted")
            return None if digest is None else _by_digest(connection, digest)

    def promotions(self) -> list[Event]:
        """Every promotion and roll-back, the oldest first."""
        return self.events(*_PROMOTION_KINDS)

    # --- documents and canaries ---

    @patient
    def put_document(self, kind: str, id: str, payload: Any) -> Any:
        """Keep a record that is read whole (an evaluation, a decision); returns the first that was stored."""
        with self._write() as connection:
            row = {"kind": kind, "id": id, "payload": payload, "created": now()}
            self._insert_first_wins(connection, tables.document, [row])
            return _document(connection, kind, id)

    @patient
    def document(self, kind: str, id: str) -> Any:
        """A stored document, or None."""
        with self._read() as connection:
            return _document(connection, kind, id)

    @patient
    def documents(self, kind: str) -> dict[str, Any]:
        """All documents of a kind by id, the oldest first."""
        table = tables.document.c
        with self._read() as connection:
            query = select(tables.document).where(table.kind == kind).order_by(table.created, table.id)
            return {row.id: row.payload for row in connection.execute(query)}

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


_PROMOTION_KINDS = ("promotion", "roll_back")


def _promoted_stack(history: list[Event]) -> list[str]:
    """Digests that were promoted and not rolled back; the last is promoted now."""
    stack: list[str] = []
    for event in history:
        if event.kind == "promotion":
            stack.append(event.payload["digest"])
        else:
            stack.pop()
    return stack


def _target(connection: Connection, name: str) -> str | None:
    pointer = tables.pointer.c
    target: str | None = connection.execute(select(pointer.target).where(pointer.name == name)).scalar()
    return target


def _document(connection: Connection, kind: str, id: str) -> Any:
    table = tables.document.c
    return connection.execute(select(table.payload).where(table.kind == kind, table.id == id)).scalar()


def _by_digest(connection: Connection, digest: str) -> Checkpoint:
    table = tables.checkpoint
    query = select(table).where(table.c.digest == digest).order_by(table.c.created.desc())
    return _checkpoint(connection.execute(query).first())


def _answers_to(checkpoint: Checkpoint, name: str) -> bool:
    prefix = name.lower()
    by_hash = len(name) >= 4 and (checkpoint.id.hex().startswith(prefix) or checkpoint.digest.startswith(prefix))
    return by_hash or name in (checkpoint.path, PurePath(checkpoint.path).name)


def _checkpoint(row: Row[Any] | None) -> Checkpoint:
    assert row is not None, "the promoted checkpoint is in the store"
    return Checkpoint(**{field.name: row._mapping[field.name] for field in fields(Checkpoint)})
