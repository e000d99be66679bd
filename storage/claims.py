"""Claims: who works on what, so that no two workers ask a model the same thing.

A claim is a lease: it ends when it is released or when its time is up, and then another worker may take the items.
Every claim has a fence, a number of its own. A write that comes with a lease is refused in its own transaction when
any item of the lease has gone to somebody else. (A lease that is past its time but that nobody took is still good:
a slow batch is not thrown away.) Clocks of several machines may differ: a fast one takes items early, which costs
work and never correctness.

People hold items too: pairs that they review, in the stage `REVIEW`. There the worker is a reviewer. And whoever works
on a run says so by a claim that keeps nobody off (`come`), so that a run whose process is gone is not taken for one
that runs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, and_, delete, or_, select, update

from constitution.records import Id, make_id
from storage import tables
from storage.database import Database, chunks, patient

REVIEW = "review"  # the stage of comparisons that reviewers hold
AT_WORK = "at work on "  # how the stage begins in which a run's processes say that they are there


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker holds: `ids` of `stage`, until `expires` (Unix seconds)."""

    stage: str
    worker: str
    ids: tuple[Id, ...]
    fence: bytes
    expires: int


class StaleLease(RuntimeError):
    """The lease was lost to another worker; what came with it was not written. Claim again and go on."""


class Claims(Database):
    def claim(
        self,
        stage: str,
        ids: Sequence[Id],
        worker: str,
        lease_seconds: float,
        *,
        again: bool = False,
        mark: bytes = b"",
    ) -> Lease:
        """Claim what nobody holds of `ids`; the lease names what was got, in the order asked.

        `again`: also what this worker holds by an earlier lease, which is lost by that: the same reviewer in a second
        window. `mark`: how the fence ends, up to 2 bytes, by which `holding` tells what it was claimed for.
        """
        expires = int(time.time() + lease_seconds)
        return self._claim(stage, ids, worker, secrets.token_bytes(8 - len(mark)) + mark, expires, again)

    @patient
    def _claim(self, stage: str, ids: Sequence[Id], worker: str, fence: bytes, expires: int, again: bool) -> Lease:
        claim = tables.claim
        rows = [
            {"stage": stage, "id": id, "worker": worker, "fence": fence, "expires": expires} for id in sorted(set(ids))
        ]
        insert = self._insert(claim)
        new = insert.excluded
        free = [claim.c.expires < int(time.time()), claim.c.fence == fence]
        take = insert.on_conflict_do_update(
            index_elements=["stage", "id"],
            set_={"worker": new.worker, "fence": new.fence, "expires": new.expires},
            where=or_(*free, claim.c.worker == worker) if again else or_(*free),
        )
        with self._write() as connection:
            if rows:
                connection.execute(take, rows)
            got = self._held(connection, stage, fence, ids)
        return Lease(stage, worker, tuple(id for id in dict.fromkeys(ids) if id in got), fence, expires)

    @patient
    def renew(self, lease: Lease, lease_seconds: float) -> Lease:
        """Hold all of a lease for so many seconds from now. Raises StaleLease where some of it is lost already."""
        claim = tables.claim
        expires = int(time.time() + lease_seconds)
        with self._write() as connection:
            self._check_lease(connection, lease)
            mine = (claim.c.stage == lease.stage, claim.c.fence == lease.fence)
            for some in chunks(sorted(lease.ids)):
                connection.execute(update(claim).where(*mine, claim.c.id.in_(some)).values(expires=expires))
        return replace(lease, expires=expires)

    def come(self, run: Id, worker: str, seconds: float) -> None:
        """Say that a worker is at a run, and will be for so long unless it says so again."""
        self.claim(f"{AT_WORK}{run.hex()}", [make_id("worker", name=worker)], worker, seconds, again=True)

    @patient
    def at_work(self) -> dict[Id, dict[str, int]]:
        """For each run, the workers that have come to it and did not go, and until when each said it would be there."""
        claim = tables.claim.c
        query = select(claim.stage, claim.worker, claim.expires).where(claim.stage.startswith(AT_WORK))
        found: dict[Id, dict[str, int]] = {}
        with self._read() as connection:
            for row in connection.execute(query):
                found.setdefault(bytes.fromhex(row.stage.removeprefix(AT_WORK)), {})[row.worker] = row.expires
        return found

    @patient
    def holders(self, stage: str, ids: Sequence[Id]) -> dict[Id, str]:
        """Who holds each of these items now; what nobody holds is left out."""
        claim = tables.claim.c
        held: dict[Id, str] = {}
        with self._read() as connection:
            for some in chunks(sorted(set(ids))):
                here = and_(claim.stage == stage, claim.id.in_(some), claim.expires >= int(time.time()))
                rows = connection.execute(select(claim.id, claim.worker).where(here))
                held |= {row.id: row.worker for row in rows}
        return held

    @patient
    def holding(self, stage: str) -> dict[Id, tuple[str, bytes]]:
        """All that is held of a stage now: by whom, and under which fence. For stages of which little is held."""
        claim = tables.claim.c
        query = select(claim.id, claim.worker, claim.fence)
        with self._read() as connection:
            rows = connection.execute(query.where(claim.stage == stage, claim.expires >= int(time.time())))
            return {row.id: (row.worker, row.fence) for row in rows}

    @patient
    def release(self, lease: Lease) -> None:
        """Give back what is left of a lease."""
        with self._write() as connection:
            self._release(connection, lease)

    def _release(self, connection: Connection, lease: Lease) -> None:
        claim = tables.claim.c
        mine = (claim.stage == lease.stage, claim.fence == lease.fence)
        for some in chunks(sorted(lease.ids)):
            connection.execute(delete(tables.claim).where(*mine, claim.id.in_(some)))

    @patient
    def release_worker(self, worker: str) -> None:
        """Give back all that a worker holds: for one that is known to be dead, whose leases would run on."""
        with self._write() as connection:
            connection.execute(delete(tables.claim).where(tables.claim.c.worker == worker))

    @patient
    def workers(self) -> list[str]:
        """The workers that hold something now; not the people who review."""
        claim = tables.claim.c
        running = (claim.expires >= int(time.time()), claim.stage != REVIEW)
        query = select(claim.worker).where(*running).distinct().order_by(claim.worker)
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def _check_lease(self, connection: Connection, lease: Lease | None) -> None:
        """Raise StaleLease unless the lease is whole; on Postgres it stays so until this transaction ends."""
        if lease is None:
            return
        held = self._held(connection, lease.stage, lease.fence, lease.ids, locked=True)
        if len(held) != len(lease.ids):
            lost = len(lease.ids) - len(held)
            raise StaleLease(f"{lease.worker} lost {lost} of {len(lease.ids)} items of {lease.stage}")

    def _held(
        self, connection: Connection, stage: str, fence: bytes, ids: Sequence[Id], locked: bool = False
    ) -> set[Id]:
        claim = tables.claim.c
        held: set[Id] = set()
        for some in chunks(sorted(set(ids))):
            query = select(claim.id).where(claim.stage == stage, claim.fence == fence, claim.id.in_(some))
            query = query.order_by(claim.id).with_for_update() if locked else query
            held |= set(connection.execute(query).scalars())
        return held
