"""Checkpoints: the trained models that there are, found by what people call them.

Leaves out how one is promoted (`registry.py`) and what is in their folders.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, or_, select, update

from constitution.errors import UserError
from constitution.records import Checkpoint, Id, canonical
from storage import tables
from storage.database import id_range, patient
from storage.paths import CHECKPOINT, Paths
from storage.runs import now

LEAST = 4  # hex digits that a name has at least


class Checkpoints(Paths):
    @patient
    def add_checkpoint(self, checkpoint: Checkpoint, run: Id | None = None) -> None:
        """Register a checkpoint folder that is whole. The same weights made again may lie elsewhere: the new path
        counts, because the old folder was lost."""
        row = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
        row["path"] = self.kept_path(checkpoint.path)
        table = tables.checkpoint
        mine = (table.c.id == checkpoint.id, table.c.digest == checkpoint.digest)
        with self._write() as connection:
            self._insert_first_wins(connection, table, [row | {"run": run, "created": now()}])
            connection.execute(update(table).where(*mine).values(path=row["path"]))

    @patient
    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, the oldest first."""
        table = tables.checkpoint
        with self._read() as connection:
            rows = connection.execute(select(table).order_by(table.c.created, table.c.id, table.c.digest))
            return [self._checkpoint(row) for row in rows]

    def checkpoint(self, name: Id | str) -> Checkpoint:
        """A checkpoint by its job's id, the first hex digits of id or digest, its folder's path or last name, or
        `promoted`. Of several attempts at one job the last counts. Raises UserError where none or several fit."""
        if name == "promoted":
            promoted = self.promoted()
            if promoted is None:
                raise UserError("nothing is promoted yet; `precept model promote CHECKPOINT` does it")
            return promoted
        text = name.hex() if isinstance(name, bytes) else name
        attempts = self._called(text)
        if len(attempts) == 1:
            return self._at(*next(iter(attempts.items())))
        if not attempts:
            raise UserError(
                f"there is no checkpoint {text!r} in the store; `precept improve` and `precept retrain` put theirs "
                "there, and `precept model list` lists them (a folder of `precept train` is named by its path)"
            )
        names = ", ".join(id.hex()[:12] for id in list(attempts)[:5])
        raise UserError(f"several checkpoints answer to {text!r} ({names}); write more of the id")

    @patient
    def promoted(self) -> Checkpoint | None:
        """The checkpoint that a server should run."""
        pointer = tables.pointer.c
        with self._read() as connection:
            digest = connection.execute(select(pointer.target).where(pointer.name == "promoted")).scalar()
            return None if digest is None else self._by_digest(connection, digest)

    @patient
    def _called(self, name: str) -> dict[Id, str]:
        """By job's id, the digest of the last attempt among the checkpoints that answer to a name."""
        table = tables.checkpoint.c
        query = select(table.id, table.digest).order_by(table.created, table.id, table.digest)
        with self._read() as connection:
            found = connection.execute(query.where(or_(*self._answers_to(name)))).all()
            if not found and name and "/" not in name:  # the last name of a folder elsewhere: that has no index
                ending = canonical(name)[1:].replace("!", "!!").replace("%", "!%").replace("_", "!_")
                found = connection.execute(query.where(cast(table.path, Text).like(f"%/{ending}", escape="!"))).all()
        return {row.id: row.digest for row in found}

    def _answers_to(self, name: str) -> list[ColumnElement[bool]]:
        """Conditions, each served by an index."""
        table = tables.checkpoint.c
        paths = {name, f"checkpoints/{name}", *re.findall(f"/({CHECKPOINT.pattern})$", name)}  # of any home it was in
        if name and "\0" not in name:
            paths |= {self.kept_path(Path(name).absolute()), self.kept_path(Path(name).resolve())}
        conditions: list[ColumnElement[bool]] = [table.path.in_(sorted(paths))]
        prefix = name.lower()
        if len(prefix) >= LEAST and re.fullmatch("[0-9a-f]+", prefix):
            conditions.append(table.digest.between(prefix, prefix + "g"))
            if (ids := id_range(prefix)) is not None:
                conditions.append(table.id.between(*ids))
        return conditions

    @patient
    def _at(self, id: Id, digest: str) -> Checkpoint:
        table = tables.checkpoint
        with self._read() as connection:
            query = select(table).where(table.c.id == id, table.c.digest == digest)
            return self._checkpoint(connection.execute(query).one())

    def _by_digest(self, connection: Connection, digest: str) -> Checkpoint:
        table = tables.checkpoint
        query = select(table).where(table.c.digest == digest).order_by(table.c.created.desc())
        row = connection.execute(query).first()
        assert row is not None, "the promoted checkpoint is in the store"
        return self._checkpoint(row)

    def _checkpoint(self, row: Row[Any]) -> Checkpoint:
        named = {field.name: row._mapping[field.name] for field in fields(Checkpoint)}
        return Checkpoint(**named | {"path": self._found_checkpoint(row.path)})
