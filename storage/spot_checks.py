"""Spot checks: what people answered about comparisons, blind, and what they took back.

An answer stands until it is taken back, or until the same reviewer answers again about the same comparison. A reviewer
who is shown a pair holds it by a claim of the stage `REVIEW`, so that two people are not asked at once what one has
to answer.

Where a reviewer was asked about one principle alone, the answer is of a kind of its own: it says nothing of the whole,
and only who asks for that principle's answers gets it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import ColumnElement, Row, Select, exists, select

from constitution.errors import UserError
from constitution.records import Event, Id, SpotAnswer, SpotCheck
from storage import tables
from storage.claims import Claims, Lease
from storage.database import chunks, patient
from storage.events import Events

CHECK, UNDONE = "spot_check", "spot_check_undone"
CHECK_ONE = "spot_check_of_one_principle"  # `target` is the principle
MORE = ("principle", "rewrite", "probability", "asked")  # kept where they are given


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
        principle: str = "",
        rewrite: str = "",
        asked: str = "",
        probability: float | None = None,
    ) -> SpotCheck:
        """Store what a reviewer answered about a comparison. It is on disk when this returns.

        `lease`: the claim under which the pair was shown. It is given back for this comparison in the same transaction;
        raises StaleLease, and stores nothing, where the comparison has gone to somebody else or was given back. The
        same key again returns the first answer, whatever became of the lease. The rest as in `SpotCheck`.
        """
        if answer not in get_args(SpotAnswer):
            raise ValueError(f"{answer!r} is not one of {get_args(SpotAnswer)}")
        payload: dict[str, Any] = {"comparison": comparison.hex(), "answer": answer, "reason": reason}
        payload["sampled_by"] = sampled_by
        more = {"principle": principle, "rewrite": rewrite, "probability": probability, "asked": asked}
        payload |= {name: value for name, value in more.items() if value not in ("", None)}
        mine = None if lease is None else replace(lease, ids=(comparison,))
        event = self._add_spot_check(reviewer, comparison, key, payload, mine)
        return _spot_check(event.id, event.at, event.who, comparison, event.payload)

    @patient
    def _add_spot_check(
        self, reviewer: str, about: Id, key: str, payload: dict[str, Any], lease: Lease | None
    ) -> Event:
        with self._write(durable=True) as connection:
            asked = payload.get("asked")
            kind = CHECK_ONE if asked else CHECK
            event, new = self._append(connection, kind, reviewer, key, payload, about=about, target=asked)
            if new and lease is not None:
                self._check_lease(connection, lease)
                self._release(connection, lease)
            return event

    @patient
    def undo_spot_check(self, reviewer: str, event: str, key: str) -> Event:
        """Take back a spot check by the id of its event: another event, so the history keeps both."""
        table = tables.event.c
        mine = select(table.about).where(
            table.id == event, table.kind.in_((CHECK, CHECK_ONE)), table.who == reviewer, _stands()
        )
        with self._write(durable=True) as connection:
            connection.execute(select(table.seq).where(table.id == event).with_for_update())  # Postgres: one undo of it
            row = connection.execute(mine).first()
            about = None if row is None else row.about
            payload = {"event": event}
            undone, new = self._append(connection, UNDONE, reviewer, key, payload, about=about, target=event)
            if new and row is None:
                raise UserError(f"{reviewer} has no standing answer {event} to undo")  # and nothing was written
            return undone

    @patient
    def spot_check(self, event: str) -> SpotCheck:
        """An answer by the id of its event, whether it stands or was taken back. Raises KeyError for an unknown one."""
        with self._read() as connection:
            query = select(tables.event).where(tables.event.c.id == event, tables.event.c.kind.in_((CHECK, CHECK_ONE)))
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
        asked: str = "",
    ) -> list[SpotCheck]:
        """The answers that stand: the last one of each reviewer about each comparison that was not undone, in the order
        in which each reviewer first answered about each comparison.

        `run`: about its comparisons, of its `stages` where some are named. `sampled_by`: of those, the ones whose pair
        was drawn so. `asked`: what was answered about this principle alone; else, about the whole constitution.
        """
        event = tables.event.c
        columns = select(event.seq, event.id, event.at, event.who, event.about, event.payload)
        wanted = _answers(columns, run, stages, reviewer, asked)
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
        asked: str = "",
    ) -> set[Id]:
        """Which of the comparisons, or of those of a run, a reviewer has a standing answer about."""
        wanted = _answers(select(tables.event.c.about).distinct(), run, stages, reviewer, asked)
        return {row.about for query in _among(wanted, comparisons) for row in self._rows(query)}

    @patient
    def reviewed(
        self, reviewer: str, *, since: int = 0, day: str = ""
    ) -> tuple[list[tuple[int, Id | None, float]], int]:
        """What a reviewer did of late: its number, about which comparison and when (Unix seconds), for each answer and
        each that was taken back, in their order; and the number of the last. `since`: only later numbers. `day`: not
        before it, as 2026-11-28."""
        event = tables.event.c
        mine = (event.who == reviewer, event.kind.in_((CHECK, CHECK_ONE, UNDONE)), event.seq > since, event.at >= day)
        query = select(event.seq, event.about, event.at).where(*mine).order_by(event.seq)
        with self._read() as connection:
            rows = connection.execute(query).all()
        found = [(row.seq, row.about, datetime.fromisoformat(row.at).timestamp()) for row in rows]
        return found, max((row.seq for row in rows), default=since)

    @patient
    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._read() as connection:
            return connection.execute(query).all()


def _stands() -> ColumnElement[bool]:
    """Nothing has taken this event back."""
    later = tables.event.alias("later").c
    return ~exists().where(later.kind == UNDONE, later.target == tables.event.c.id)


def _answers(
    query: Select[Any], run: Id | None, stages: Collection[str] | None, reviewer: str | None, asked: str
) -> Select[Any]:
    event, member = tables.event.c, tables.member.c
    query = query.where(event.kind == (CHECK_ONE if asked else CHECK), _stands())
    if asked:
        query = query.where(event.target == asked)
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
    more = {name: said[name] for name in MORE if name in said}
    return SpotCheck(event, at, who, about, said["answer"], said["reason"], said["sampled_by"], **more)
