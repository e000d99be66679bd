"""Runs: what was started, with which settings, and how it ended.

A run's id hashes its key, and its key says what the run would do: starting it again is going on with it. Which records
belong to a run is in `stages.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import Row, exists, func, select, tuple_, update

from constitution.errors import UserError
from constitution.records import Id, make_id
from storage import tables
from storage.database import id_range, patient
from storage.paths import Paths
from storage.stages import Stages, stages_of

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


class Runs(Stages, Paths):
    def _run_of(self, row: Row[Any]) -> Run:
        of = row._mapping
        return Run(**{**of, "settings": self._found_record(of["settings"]), "result": self._found_record(of["result"])})

    @patient
    def start_run(self, key: str, kind: str, settings: Mapping[str, Any], constitution: str | None = None) -> Run:
        """The run of this key, now running; a finished one is returned as it is, with its result."""
        # What finds a run is its key: the id hashes the key that it had when it began, and keys were migrated once.
        row = {"id": make_id("run", key=key), "key": key, "kind": kind, "constitution": constitution}
        row["settings"] = self._kept_record(settings)
        reopened = update(tables.run).where(tables.run.c.key == key, tables.run.c.status != "finished")
        with self._write() as connection:
            self._insert_first_wins(connection, tables.run, [row | {"status": "running", "created": now()}])
            connection.execute(reopened.values(status="running", finished=None, error=None))
            return self._run_of(connection.execute(select(tables.run).where(tables.run.c.key == key)).one())

    @patient
    def run_of_key(self, key: str) -> Run | None:
        """The run of this key, as it is; None where none was begun."""
        with self._read() as connection:
            row = connection.execute(select(tables.run).where(tables.run.c.key == key)).first()
            return None if row is None else self._run_of(row)

    @patient
    def finish_run(self, id: Id, status: RunStatus, result: Any = None, error: str | None = None) -> None:
        """Close a run. A finished run stays finished, with its first result."""
        open_run = update(tables.run).where(tables.run.c.id == id, tables.run.c.status != "finished")
        with self._write() as connection:
            kept = self._kept_record(result)
            connection.execute(open_run.values(status=status, finished=now(), result=kept, error=error))

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
                return self._run_of(connection.execute(select(table).where(table.c.id == found[0])).one())
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
            return [self._run_of(row) for row in connection.execute(query)]

    @patient
    def run_kinds(self) -> list[str]:
        """The kinds of runs that there are, by name."""
        kind = tables.run.c.kind
        with self._read() as connection:
            return list(connection.execute(select(kind).distinct().order_by(kind)).scalars())

    @patient
    def newest_judged(self, without_kinds: Collection[str] = ()) -> Run | None:
        """The newest run that asked a judge: that has a stage of questions. None where there is none."""
        run = tables.run.c
        newest = select(run.id, run.created).where(run.kind.not_in(sorted(without_kinds))).order_by(*_NEWEST)
        with self._read() as connection:
            page = connection.execute(newest.limit(_LOOK)).all()
            while page:
                asked = stages_of(select(run.id).where(run.id.in_([row.id for row in page])))
                member = tables.member.c
                pairs = func.substr(asked.c.stage, 1, func.length(asked.c.stage) - len(QUESTIONS))
                beside = exists().where(member.run == asked.c.run, member.stage == pairs)  # X, beside X.questions
                judged = select(asked.c.run).where(asked.c.stage.endswith(QUESTIONS, autoescape=True), beside)
                found = select(tables.run).where(run.id.in_(judged)).order_by(*_NEWEST).limit(1)
                if row := connection.execute(found).first():
                    return self._run_of(row)
                last = page[-1]
                earlier = newest.where(tuple_(run.created, run.id) < (last.created, last.id))
                page = connection.execute(earlier.limit(_LOOK)).all()
        return None


QUESTIONS = ".questions"  # how the name of a stage of questions ends
_LOOK = 50  # runs whose stages are looked at together
_NEWEST = (tables.run.c.created.desc(), tables.run.c.id.desc())
