"""Spot checks: what people answered about comparisons, blind, and what they took back.

An answer stands until it is taken back, or until the same reviewer answers again about the same comparison. A reviewer
who is shown a pair holds it by a claim of the stage `REVIEW`, so that two people are not asked at once what one has
to answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from sqlalchemy import ColumnElement, Row, Select, exists, select

from constitution.errors import UserError
from constitution.records import Event, Id, SpotAnswer, SpotCheck
from storage import tables
from storage.claims import Claims, Lease
from storage.database import chunks, patient
from storage.events import Events

CHECK, UNDONE = "spot_check", "spot_check_undone"


class SpotChecks(Events, Claims):
    def add_spot_check(
        self,
        reviewer: str,
        comparison: Id,
        answer: SpotAnswer,
        *,
        reason: str = "",
        sampled_by: str,
        key: str,
        lease: Lease | None = None,
    ) -> SpotCheck:
        """Store what a reviewer answered about a comparison. It is on disk when this returns.

        `lease`: the claim under which the pair was shown. It is given back for this comparison in the same transaction;
        raises StaleLease, and stores nothing, where the comparison has gone to somebody else or was given back. The
        same key again returns the first answer, whatever became of the lease.
        """
        if answer not in get_args(SpotAnswer):
            raise ValueError(f"{answer!r} is not one of {get_args(SpotAnswer)}")
        payload = {"comparison": comparison.hex(), "answer": answer, "reason": reason, "sampled_by": sampled_by}
        mine = None if lease is None else replace(lease, ids=(comparison,))
        event = self._add_spot_check(reviewer, comparison, key, payload, mine)
        return _spot_check(event.id, event.at, event.who, comparison, event.payload)

    @patient
    def _add_spot_check(
        self, reviewer: str, about: Id, key: str, payload: dict[str, Any], lease: Lease | None
    ) -> Event:
        with self._write(durable=True) as connection:
            event, new = self._append(connection, CHECK, reviewer, key, payload, about=about)
            if new and lease is not None:
                self._check_lease(connection, lease)
                self._release(connection, lease)
            return event

    @patient
    def undo_spot_check(self, reviewer: str, event: str, key: str) -> Event:
        """Take back a spot check by the id of its event: another event, so the history keeps both."""
        table = tables.event.c
        mine = select(table.about).where(table.id == event, table.kind == CHECK, table.who == reviewer, _stands())
        with self._write(durable=True) as connection:
            connection.execute(select(table.seq).where(table.id == event).with_for_update())  # Postgres: one undo of it
            about = connection.execute(mine).scalar()
            payload = {"event": event}
            undone, new = self._append(connection, UNDONE, reviewer, key, payload, about=about, target=event)
            if new and about is None:
                raise UserError(f"{reviewer} has no standing answer {event} to undo")  # and nothing was written
            return undone

    @patient
    def spot_check(self, event: str) -> SpotCheck:
        """An answer by the id of its event, whether it stands or was taken back. Raises KeyError for an unknown one."""
        with self._read() as connection:
            query = select(tables.event).where(tables.event.c.id == event, tables.event.c.kind == CHECK)
            row = connection.execute(query).first()
        if row is None:
            raise KeyError(event)
        return _spot_check(row.id, row.at, row.who, row.about, row.payload)

    def spot_checks(
        self,
        *,
        run: Id | None = None,
        stages: Collection[str] | None = None,
        comparisons: Sequence[Id] | None = None,
        reviewer: str | None = None,
        sampled_by: str | None = None,
    ) -> list[SpotCheck]:
        """The answers that stand: the last one of each reviewer about each comparison that was not undone, in the order
        in which each reviewer first answered about each comparison.

        `run`: about its comparisons, of its `stages` where some are named. `sampled_by`: of those, the ones whose pair
        was drawn so.
        """
        event = tables.event.c
        columns = select(event.seq, event.id, event.at, event.who, event.about, event.payload)
        wanted = _answers(columns, run, stages, reviewer)
        found = [row for query in _among(wanted, comparisons) for row in self._rows(query)]
        found.sort(key=lambda row: row.seq)
        checks = (_spot_check(row.id, row.at, row.who, row.about, row.payload) for row in found)
        last = {(check.reviewer, check.comparison): check for check in checks}
        return [check for check in last.values() if sampled_by in (None, check.sampled_by)]

    def answered(
        self,
        reviewer: str,
        comparisons: Sequence[Id] | None = None,
        *,
        run: Id | None = None,
        stages: Collection[str] | None = None,
    ) -> set[Id]:
        """Which of the comparisons, or of those of a run, a reviewer has a standing answer about."""
        wanted = _answers(select(tables.event.c.about).distinct(), run, stages, reviewer)
        return {row.about for query in _among(wanted, comparisons) for row in self._rows(query)}

    @patient
    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._read() as connection:
            return connection.execute(query).all()


def _stands() -> ColumnElement[bool]:
    """Nothing has taken this event back."""
    later = tables.event.alias("later").c
    return ~exists().where(later.kind == UNDONE, later.target == tables.event.c.id)


def _answers(query: Select[Any], run: Id | None, stages: Collection[str] | None, reviewer: str | None) -> Select[Any]:
    event, member = tables.event.c, tables.member.c
    query = query.where(event.kind == CHECK, _stands())
    if reviewer is not None:
        query = query.where(event.who == reviewer)
    if run is not None:
        here = exists().where(member.id == event.about, member.run == run)
        query = query.where(here if stages is None else here.where(member.stage.in_(sorted(stages))))
    return query


def _among(query: Select[Any], comparisons: Sequence[Id] | None) -> Iterator[Select[Any]]:
    if comparisons is None:
        yield query
        return
    for some in chunks(sorted(set(comparisons))):
        yield query.where(tables.event.c.about.in_(some))


def _spot_check(event: str, at: str, who: str, about: Id, said: Mapping[str, Any]) -> SpotCheck:
    return SpotCheck(event, at, who, about, said["answer"], said["reason"], said["sampled_by"])
