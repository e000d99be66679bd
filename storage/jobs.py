"""Jobs: what a worker of the console is asked to do. One worker has a job at a time, by its name in the row; whoever
was taken for dead and comes back can write nothing into a job that another has by then."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Row, func, select, update

from constitution.errors import UserError
from constitution.records import Id, make_id
from storage import tables
from storage.database import Database, patient

JobState: TypeAlias = Literal["waiting", "running", "finished", "failed", "cancelled"]
OPEN = ("waiting", "running")


@dataclass(frozen=True, slots=True)
class StoredJob:
    """`said`: the last word on how far it is. `tries`: how often a worker has begun it. Times are Unix seconds."""

    id: Id
    kind: str
    payload: Mapping[str, Any]
    who: str
    state: JobState
    tries: int
    worker: str | None
    said: str | None
    result: Any
    error: str | None
    created: int
    begun: int | None
    ended: int | None

    @property
    def over(self) -> bool:
        return self.state not in OPEN


class Jobs(Database):
    @patient
    def put_job(self, kind: str, payload: Mapping[str, Any], who: str, key: str, most: int) -> StoredJob:
        """Ask for a job; the same person's with the same key is the one that is there. Raises UserError where that
        person has `most` that are not over."""
        job = tables.job.c
        id = make_id("console job", who=who, key=key)
        row = {
            "id": id, "kind": kind, "payload": dict(payload), "who": who, "state": "waiting", "tries": 0,
            "created": int(time.time()),
        }  # fmt: skip
        with self._write(durable=True, alone=True) as connection:
            found = connection.execute(select(tables.job).where(job.id == id)).first()
            if found is None:
                mine = select(func.count()).where(job.who == who, job.state.in_(OPEN))
                if (connection.execute(mine).scalar() or 0) >= most:
                    raise UserError(f"{most} jobs of yours are waiting or at work: let one end, or cancel one")
                connection.execute(self._insert(tables.job), [row])
                found = connection.execute(select(tables.job).where(job.id == id)).one()
            return _job(found)

    @patient
    def job(self, id: Id) -> StoredJob | None:
        with self._read() as connection:
            row = connection.execute(select(tables.job).where(tables.job.c.id == id)).first()
            return None if row is None else _job(row)

    @patient
    def jobs(self, states: Sequence[str] = (), *, who: str = "", most: int = 100) -> list[StoredJob]:
        """The newest first."""
        job = tables.job.c
        query = select(tables.job).order_by(job.created.desc(), job.id).limit(most)
        query = query.where(job.state.in_(states)) if states else query
        query = query.where(job.who == who) if who else query
        with self._read() as connection:
            return [_job(row) for row in connection.execute(query)]

    @patient
    def take_job(self, worker: str) -> StoredJob | None:
        """The job that has waited longest, now this worker's."""
        job = tables.job.c
        with self._write(alone=True) as connection:
            query = select(job.id).where(job.state == "waiting").order_by(job.created, job.id).limit(1)
            id = connection.execute(query).scalar()
            if id is None:
                return None
            begun = {"state": "running", "worker": worker, "begun": int(time.time()), "tries": job.tries + 1}
            connection.execute(update(tables.job).where(job.id == id).values(**begun))
            return _job(connection.execute(select(tables.job).where(job.id == id)).one())

    @patient
    def say_of_job(self, id: Id, worker: str, said: str) -> bool:
        """Whether the job is still this worker's: not when it was cancelled meanwhile."""
        return self._change(id, {"said": said}, worker=worker)

    @patient
    def end_job(self, id: Id, worker: str, state: JobState, result: Any = None, error: str | None = None) -> bool:
        """Whether it was this worker's to end."""
        values = {"state": state, "result": result, "error": error, "ended": int(time.time())}
        return self._change(id, values, worker=worker)

    @patient
    def cancel_job(self, id: Id) -> bool:
        """Whether there was something to cancel. Who works on it sees that, and stops."""
        return self._change(id, {"state": "cancelled", "ended": int(time.time())})

    @patient
    def give_back_job(self, id: Id, worker: str, most: int, why: str) -> None:
        """A job whose worker is gone waits again, or has failed where it was begun `most` times."""
        job = tables.job.c
        with self._write(alone=True) as connection:
            mine = (job.id == id, job.worker == worker, job.state == "running")
            again = update(tables.job).where(*mine, job.tries < most)
            connection.execute(again.values(state="waiting", worker=None, said=why))
            ended = {"state": "failed", "error": why, "ended": int(time.time())}
            connection.execute(update(tables.job).where(*mine, job.tries >= most).values(**ended))

    def _change(self, id: Id, values: Mapping[str, Any], worker: str | None = None) -> bool:
        job = tables.job.c
        query = update(tables.job).where(job.id == id, job.state.in_(OPEN))
        query = query if worker is None else query.where(job.worker == worker, job.state == "running")
        with self._write(durable=True) as connection:
            return bool(connection.execute(query.values(**values)).rowcount)


def _job(row: Row[Any]) -> StoredJob:
    return StoredJob(**row._mapping)
