"""Claims: who works on what, so that no two workers ask a model the same thing.

A claim is a lease: it ends when it is released or when its time is up, and then another worker may take the items.
Every claim has a fence, a number of its own. A write that comes with a lease is refused in its own transaction when
any item of the lease has gone to somebody else. (A lease that is past its time but that nobody took is still good:
a slow batch is not thrown away.) Clocks of several machines may differ: a fast one takes items early, which costs
work and never correctness.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, or_, select

from constitution.records import Id
from storage import tables
from storage.database import Database, chunks, patient


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
    def claim(self, stage: str, ids: Sequence[Id], worker: str, lease_seconds: float) -> Lease:
        """Claim what nobody holds of `ids`; the lease names what was got, in the order asked."""
        expires = int(time.time() + lease_seconds)
        return self._claim(stage, ids, worker, secrets.token_bytes(8), expires)

    @patient
    def _claim(self, stage: str, ids: Sequence[Id], worker: str, fence: bytes, expires: int) -> Lease:
        claim = tables.claim
        rows = [
            {"stage": stage, "id": id, "worker": worker, "fence": fence, "expires": expires} for id in sorted(set(ids))
        ]
        insert = self._insert(claim)
        new = insert.excluded
        take = insert.on_conflict_do_update(
            index_elements=["stage", "id"],
            set_={"worker": new.worker, "fence": new.fence, "expires": new.expires},
            where=or_(claim.c.expires < int(time.time()), claim.c.fence == fence),
        )
        with self._write() as connection:
            if rows:
                connection.execute(take, rows)
            mine = select(claim.c.id).where(claim.c.stage == stage, claim.c.fence == fence)
            got = set(connection.execute(mine).scalars())
        return Lease(stage, worker, tuple(id for id in dict.fromkeys(ids) if id in got), fence, expires)

    @patient
    def release(self, lease: Lease) -> None:
        """Give back what is left of a lease."""
        claim = tables.claim.c
        with self._write() as connection:
            connection.execute(delete(tables.claim).where(claim.stage == lease.stage, claim.fence == lease.fence))

    @patient
    def release_worker(self, worker: str) -> None:
        """Give back all that a worker holds: for one that is known to be dead, whose leases would run on."""
        with self._write() as connection:
            connection.execute(delete(tables.claim).where(tables.claim.c.worker == worker))

    @patient
    def workers(self) -> list[str]:
        """The workers that hold something now."""
        claim = tables.claim.c
        query = select(claim.worker).where(claim.expires >= int(time.time())).distinct().order_by(claim.worker)
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def _check_lease(self, connection: Connection, lease: Lease | None) -> None:
        """Raise StaleLease unless the lease is whole; on Postgres it stays so until this transaction ends."""
        if lease is None:
            return
        claim = tables.claim.c
        held = 0
        for some in chunks(sorted(lease.ids)):
            query = select(claim.id).where(claim.stage == lease.stage, claim.fence == lease.fence, claim.id.in_(some))
            held += len(connection.execute(query.order_by(claim.id).with_for_update()).all())
        if held != len(lease.ids):
            raise StaleLease(f"{lease.worker} lost {len(lease.ids) - held} of {len(lease.ids)} items of {lease.stage}")
