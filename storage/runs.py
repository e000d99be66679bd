"""Runs, and which records belong to which of their stages.

A run's id hashes its key, and its key says what the run would do: starting it again is going on with it. Membership
is written in the transaction of the record it is about; without it a run would take other runs' records for its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import CTE, Connection, Row, Select, func, select, tuple_, update

from constitution.errors import UserError
from constitution.records import Id, make_id
from storage import tables
from storage.database import Database, chunks, id_range, patient

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
            return run_of(connection.execute(select(tables.run).where(tables.run.c.id == id)).one())

    @patient
    def finish_run(self, id: Id, status: RunStatus, result: Any = None, error: str | None = None) -> None:
        """Close a run. A finished run stays finished, with its first result."""
        open_run = update(tables.run).where(tables.run.c.id == id, tables.run.c.status != "finished")
        with self._write() as connection:
            connection.execute(open_run.values(status=status, finished=now(), result=result, error=error))

    @patient
    def archive_run(self, id: Id) -> None:
        """Keep the run, but let `collect` take what only it needs."""
        self._archive(id, now())

    @patient
    def unarchive_run(self, id: Id) -> None:
        """Keep all of the run again: what `collect` has not taken meanwhile."""
        self._archive(id, None)

    def _archive(self, id: Id, at: str | None) -> None:
        with self._write() as connection:
            connection.execute(update(tables.run).where(tables.run.c.id == id).values(archived=at))

    @patient
    def run(self, id: Id | str) -> Run:
        """A run by its id, or by the first hex digits of it. Raises UserError where none or several fit."""
        prefix = id.hex() if isinstance(id, bytes) else id.lower()
        ids, table = id_range(prefix), tables.run
        query = select(table.c.id).order_by(table.c.id).limit(5)
        with self._read() as connection:
            found = [] if ids is None else list(connection.execute(query.where(table.c.id.between(*ids))).scalars())
            if len(found) == 1:
                return run_of(connection.execute(select(table).where(table.c.id == found[0])).one())
        names = ", ".join(id.hex()[:12] for id in found)
        raise UserError(
            f"several runs begin with {prefix!r} ({names}); write more of the id"
            if found
            else f"there is no run {prefix!r}; `precept run list` shows them"
        )

    @patient
    def runs(
        self,
        *,
        kinds: Collection[str] | None = None,
        statuses: Collection[RunStatus] | None = None,
        without_kinds: Collection[str] | None = None,
        most: int | None = None,
        before: Id | None = None,
    ) -> list[Run]:
        """Runs, the newest first: all, or those of some kinds and statuses.

        `most` and `before`, the last run of the page before, make pages. Raises KeyError where `before` is no run.
        """
        run = tables.run.c
        query = select(tables.run).order_by(*_NEWEST).limit(most)
        if kinds is not None:
            query = query.where(run.kind.in_(sorted(kinds)))
        if statuses is not None:
            query = query.where(run.status.in_(sorted(statuses)))
        if without_kinds:
            query = query.where(run.kind.not_in(sorted(without_kinds)))
        with self._read() as connection:
            if before is not None:
                created = connection.execute(select(run.created).where(run.id == before)).scalar()
                if created is None:
                    raise KeyError(before.hex())
                query = query.where(tuple_(run.created, run.id) < (created, before))
            return [run_of(row) for row in connection.execute(query)]

    @patient
    def newest_judged(self, without_kinds: Collection[str] = ()) -> Run | None:
        """The newest run that asked a judge: that has a stage of questions. None where there is none."""
        run, asked = tables.run.c, _stages_of(select(tables.run.c.id).where(tables.run.c.kind.not_in(without_kinds)))
        judged = select(asked.c.run).where(asked.c.stage.endswith(QUESTIONS, autoescape=True))
        query = select(tables.run).where(run.id.in_(judged)).order_by(*_NEWEST).limit(1)
        with self._read() as connection:
            row = connection.execute(query).first()
            return None if row is None else run_of(row)

    @patient
    def stages(self, run: Id) -> list[str]:
        """The names of a run's stages, without counting what is in them."""
        found = _stages_of(select(tables.run.c.id).where(tables.run.c.id == run))
        with self._read() as connection:
            query = select(found.c.stage).where(found.c.stage.is_not(None)).order_by(found.c.stage)
            return list(connection.execute(query).scalars())

    @patient
    def stage_members(self, run: Id, stage: str, *, after: Id | None = None, most: int | None = None) -> list[Id]:
        """Ids of a stage's records in the order of their slots.

        `most` and `after`, the last record of the page before, make pages. Raises KeyError where `after` is not in the
        stage.
        """
        member = tables.member.c
        here = (member.run == run, member.stage == stage)
        query = select(member.id).where(*here).order_by(member.ordinal).limit(most)
        with self._read() as connection:
            if after is not None:
                place = connection.execute(select(func.max(member.ordinal)).where(*here, member.id == after)).scalar()
                if place is None:
                    raise KeyError(after.hex())
                query = query.where(member.ordinal > place)
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


QUESTIONS = ".questions"  # how the name of a stage of questions ends
_NEWEST = (tables.run.c.created.desc(), tables.run.c.id.desc())


def _stages_of(runs: Select[tuple[Id]]) -> CTE:
    """(run, stage) of each stage of these runs, and (run, NULL) once a run.

    One step in the index a stage: members are many, and no index has each stage once.
    """
    member = tables.member.c
    some = runs.subquery()
    first = select(member.stage).where(member.run == some.c.id).order_by(member.stage).limit(1).scalar_subquery()
    found = select(some.c.id.label("run"), first.label("stage")).cte("stages", recursive=True)
    later = select(member.stage).where(member.run == found.c.run, member.stage > found.c.stage)
    following = later.order_by(member.stage).limit(1).scalar_subquery()
    return found.union_all(select(found.c.run, following).where(found.c.stage.is_not(None)))


def run_of(row: Row[Any]) -> Run:
    return Run(**row._mapping)
