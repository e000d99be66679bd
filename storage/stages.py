"""Which records belong to which stage of a run, each in its slot.

Membership is written in the transaction of the record it is about; without it a run would take other runs' records for
its own. What a stage was made of, in counts, is in `lineage.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from sqlalchemy import CTE, ColumnElement, Connection, Row, Select, func, select

from constitution.records import Id
from constitution.streams import Ids
from storage import tables
from storage.database import Database, chunks, patient

PAGE = 20_000  # members that are read together


class Stages(Database):
    @patient
    def stages(self, run: Id) -> list[str]:
        """The names of a run's stages, without counting what is in them."""
        found = stages_of(select(tables.run.c.id).where(tables.run.c.id == run))
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

    def stage_ids(self, run: Id, stage: str) -> Ids:
        """The same of all of a stage, in 16 bytes an id."""
        member = tables.member.c
        return self._paged(
            select(member.ordinal, member.id).where(member.run == run, member.stage == stage), member.ordinal
        )

    def prompts_of(self, run: Id, split: str, stage: str = "prompts") -> Ids:
        """The ids of a run's prompts of a split, in the order of their slots."""
        member, prompt = tables.member.c, tables.prompt.c
        query = select(member.ordinal, member.id).join_from(tables.member, tables.prompt, member.id == prompt.id)
        here = (member.run == run, member.stage == stage, prompt.split == split)
        return self._paged(query.where(*here), member.ordinal)

    def _paged(self, query: Select[tuple[int, Id]], ordinal: ColumnElement[int]) -> Ids:
        """The ids of a query of ordinals and ids, in their order, a page at a time: a driver would hold them all."""
        found, last = Ids(), -1
        while some := self._page(query.where(ordinal > last).order_by(ordinal).limit(PAGE)):
            found.extend(id for _, id in some)
            last = some[-1][0]
        return found

    @patient
    def _page(self, query: Select[tuple[int, Id]]) -> Sequence[Row[tuple[int, Id]]]:
        with self._read() as connection:
            return connection.execute(query).all()

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


def stages_of(runs: Select[tuple[Id]]) -> CTE:
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
