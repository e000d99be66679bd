"""Runs, and which records belong to which of their stages.

A run's id hashes its key, and its key says what the run would do: starting it again is going on with it. Membership
is written in the transaction of the record it is about; without it a run would take other runs' records for its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, func, select, update

from constitution.errors import UserError
from constitution.records import Id, make_id
from storage import tables
from storage.database import Database, chunks, patient

RunStatus: TypeAlias = Literal["running", "finished", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Run:
    id: Id
    key: str
    kind: str
    settings: Mapping[str, Any]
    constitution: str | None  # version hash
    status: RunStatus
    created: str  # ISO 8601, UTC; so are `finished` and `archived`
    finished: str | None
    result: Any
    error: str | None
    archived: str | None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Runs(Database):
    @patient
    def start_run(self, key: str, kind: str, settings: Mapping[str, Any], constitution: str | None = None) -> Run:
        """The run of this key, now running; a finished one is returned as it is, with its result."""
        id = make_id("run", key=key)
        row = {"id": id, "key": key, "kind": kind, "settings": settings, "constitution": constitution}
        reopened = update(tables.run).where(tables.run.c.id == id, tables.run.c.status != "finished")
        with self._write() as connection:
            self._insert_first_wins(connection, tables.run, [row | {"status": "running", "created": now()}])
            connection.execute(reopened.values(status="running", finished=None, error=None))
            return _run(connection.execute(select(tables.run).where(tables.run.c.id == id)).one())

    @patient
    def finish_run(self, id: Id, status: RunStatus, result: Any = None, error: str | None = None) -> None:
        """Close a run. A finished run stays finished, with its first result."""
        open_run = update(tables.run).where(tables.run.c.id == id, tables.run.c.status != "finished")
        with self._write() as connection:
            connection.execute(open_run.values(status=status, finished=now(), result=result, error=error))

    @patient
    def archive_run(self, id: Id) -> None:
        """Keep the run, but let `collect` take what only it needs."""
        with self._write() as connection:
            connection.execute(update(tables.run).where(tables.run.c.id == id).values(archived=now()))

    def run(self, id: Id | str) -> Run:
        """A run by its id, or by the first hex digits of it. Raises UserError where none or several fit."""
        prefix = id.hex() if isinstance(id, bytes) else id.lower()
        found = [run for run in self.runs() if run.id.hex().startswith(prefix)]
        if len(found) == 1 and prefix:
            return found[0]
        names = ", ".join(run.id.hex()[:12] for run in found[:5])
        raise UserError(
            f"several runs begin with {prefix!r} ({names}); write more of the id"
            if found
            else f"there is no run {prefix!r}; `precept run list` shows them"
        )

    @patient
    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        with self._read() as connection:
            rows = connection.execute(select(tables.run).order_by(tables.run.c.created.desc(), tables.run.c.id))
            return [_run(row) for row in rows]

    @patient
    def stage_members(self, run: Id, stage: str) -> list[Id]:
        """Ids of a stage's records in the order of their slots."""
        member = tables.member.c
        query = select(member.id).where(member.run == run, member.stage == stage).order_by(member.ordinal)
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    @patient
    def reused(self, run: Id) -> dict[str, int]:
        """How many records of each stage were stored before this run came to them."""
        member = tables.member.c
        query = select(member.stage, func.sum(member.reused)).where(member.run == run).group_by(member.stage)
        with self._read() as connection:
            return {stage: int(count) for stage, count in connection.execute(query.order_by(member.stage))}

    @patient
    def add_members(self, run: Id, stage: str, ids: Sequence[Id], ordinals: Sequence[int] | None = None) -> None:
        """Say that records which are stored already (prompts, questions) belong to a stage of a run."""
        with self._write() as connection:
            self._enrol(connection, run, stage, ids, ordinals, set(ids))

    def _enrol(
        self,
        connection: Connection,
        run: Id | None,
        stage: str,
        ids: Sequence[Id],
        ordinals: Sequence[int] | None,
        reused: AbstractSet[Id],
    ) -> None:
        """Give each id its slot of the stage; a slot that is taken keeps its first record.

        Without ordinals, ids that are not in the stage yet get the next free ones.
        """
        if run is None:
            return
        if ordinals is None:
            ids, ordinals = self._next_slots(connection, run, stage, ids)
        slots = [
            {"run": run, "stage": stage, "ordinal": ordinal, "id": id, "reused": int(id in reused)}
            for id, ordinal in zip(ids, ordinals, strict=True)
        ]
        self._insert_first_wins(connection, tables.member, slots)

    def _next_slots(self, connection: Connection, run: Id, stage: str, ids: Sequence[Id]) -> tuple[list[Id], list[int]]:
        # Postgres: one appender a run at a time, or two would take the same ordinals and one lose its rows.
        connection.execute(select(tables.run.c.id).where(tables.run.c.id == run).with_for_update())
        member = tables.member.c
        here = (member.run == run, member.stage == stage)
        start = connection.execute(select(func.coalesce(func.max(member.ordinal) + 1, 0)).where(*here)).scalar_one()
        known: set[Id] = set()
        for some in chunks(ids):
            known |= set(connection.execute(select(member.id).where(*here, member.id.in_(some))).scalars())
        new = [id for id in dict.fromkeys(ids) if id not in known]
        return new, list(range(start, start + len(new)))


def _run(row: Row[Any]) -> Run:
    return Run(**row._mapping)
