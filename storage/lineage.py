"""What lineage asks of the store beyond the other nouns: what a stage was made of, in counts; records by the first
digits of their id; and the links of single records.

Everything that can be many is counted by the database, so that a run of a hundred thousand comparisons is no more to
read here than a run of ten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import Table, and_, func, or_, select

from constitution.records import Id, Messages, messages_of
from storage import tables
from storage.database import DIGITS as DIGITS
from storage.database import Database, chunks, id_range, patient

Noun: TypeAlias = Literal["comparison", "generation", "prompt"]
_TABLES: dict[Noun, Table] = {
    "comparison": tables.comparison,
    "generation": tables.generation,
    "prompt": tables.prompt,
}

Stage: TypeAlias = tuple[Id, str]  # a run and the name of one of its stages


@dataclass(frozen=True, slots=True)
class Written:
    """Some of the texts that a stage's comparisons were made of: one kind of text, by one engine."""

    kind: str
    engine: str  # fingerprint
    count: int


class Lineage(Database):
    @patient
    def ids_like(self, noun: Noun, digits: str, most: int) -> list[Id]:
        """Ids that begin with these hex digits, in order; at most `most`. Raises ValueError for other characters."""
        ids, id = id_range(digits), _TABLES[noun].c.id
        if ids is None:
            raise ValueError(f"{digits!r} is not the beginning of an id")
        with self._read() as connection:
            return list(connection.execute(select(id).where(id.between(*ids)).order_by(id).limit(most)).scalars())

    # --- stages, in counts ---

    @patient
    def stage_sizes(self, run: Id) -> dict[str, tuple[int, int]]:
        """By stage, how many records it has, and how many of them were stored before this run came to them."""
        member = tables.member.c
        query = select(member.stage, func.count(), func.sum(member.reused)).where(member.run == run)
        with self._read() as connection:
            rows = connection.execute(query.group_by(member.stage).order_by(member.stage))
            return {stage: (int(count), int(reused)) for stage, count, reused in rows}

    @patient
    def stage_engines(self, run: Id) -> dict[str, str]:
        """By stage of generations, the fingerprint of the engine that wrote the first of them."""
        member, generation = tables.member.c, tables.generation.c
        query = (
            select(member.stage, generation.engine)
            .join_from(tables.member, tables.generation, member.id == generation.id)
            .where(member.run == run, member.ordinal == 0)
        )
        with self._read() as connection:
            return {row.stage: row.engine for row in connection.execute(query.order_by(member.stage))}

    @patient
    def stage_prompts(self, stage: Stage) -> int:
        """How many different prompts the comparisons of a stage are about."""
        member, comparison = tables.member.c, tables.comparison.c
        query = (
            select(func.count(comparison.prompt.distinct()))
            .join_from(tables.member, tables.comparison, member.id == comparison.id)
            .where(member.run == stage[0], member.stage == stage[1])
        )
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())

    @patient
    def stage_texts(self, stage: Stage, runs: Sequence[Id], without: Sequence[str] = ()) -> list[Written]:
        """What the comparisons of a stage were made of, counted, the most first: texts that these runs wrote, but not
        in the stages `without` (SQL patterns). A comparison depends on texts alone: some of its origins came later."""
        member, origin, generation = tables.member.c, tables.origin.c, tables.generation.c
        wrote = tables.member.alias("wrote").c
        aside = [~wrote.stage.like(pattern) for pattern in without]
        mine = select(wrote.id).where(wrote.id == generation.id, wrote.run.in_(runs), *aside).exists()
        count = func.count(generation.id.distinct())
        query = (
            select(generation.kind, generation.engine, count)
            .join_from(tables.member, tables.origin, member.id == origin.comparison)
            .join(tables.generation, generation.id == origin.generation)
            .where(member.run == stage[0], member.stage == stage[1], mine)
            .group_by(generation.kind, generation.engine)
            .order_by(count.desc(), generation.kind, generation.engine)
        )
        with self._read() as connection:
            return [Written(kind, engine, int(count)) for kind, engine, count in connection.execute(query)]

    @patient
    def stage_verdicts(self, stages: Collection[Stage], questions: Collection[Id]) -> dict[Id, int]:
        """By question, how many verdicts there are about the comparisons of these stages, each counted once."""
        member, verdict = tables.member.c, tables.verdict.c
        here = or_(*(and_(member.run == run, member.stage == stage) for run, stage in sorted(stages)))
        counts = dict.fromkeys(questions, 0)
        if not stages:
            return counts
        query = (
            select(verdict.question, func.count())
            .where(verdict.comparison.in_(select(member.id).where(here)))
            .group_by(verdict.question)
        )
        with self._read() as connection:
            for some in chunks(sorted(counts)):
                counts |= {q: int(n) for q, n in connection.execute(query.where(verdict.question.in_(some)))}
        return counts

    # --- single records ---

    @patient
    def appearances(self, id: Id) -> list[Stage]:
        """The stages of runs that a record belongs to, the oldest run first."""
        member, run = tables.member.c, tables.run.c
        query = select(member.run, member.stage).join_from(tables.member, tables.run).where(member.id == id)
        with self._read() as connection:
            found = connection.execute(query.order_by(run.created, member.run, member.stage))
            return list(dict.fromkeys((row.run, row.stage) for row in found))

    @patient
    def dialogue(self, id: Id) -> Messages:
        """What a prompt or a comparison is about. Raises KeyError where it is not stored."""
        table = tables.dialogue.c
        with self._read() as connection:
            rows = connection.execute(select(table.messages).where(table.id == id)).scalar()
        if rows is None:
            raise KeyError(id.hex())
        return messages_of(rows)

    @patient
    def answers_to(self, prompt: Id) -> list[Id]:
        """Every generation about a prompt: by round, then sample."""
        generation = tables.generation.c
        query = select(generation.id).where(generation.prompt == prompt)
        with self._read() as connection:
            found = connection.execute(query.order_by(generation.round, generation.sample, generation.id))
            return list(found.scalars())

    @patient
    def written_from(self, generation: Id) -> list[Id]:
        """The critiques and revisions of a generation."""
        table = tables.generation.c
        with self._read() as connection:
            query = select(table.id).where(table.parent == generation).order_by(table.round, table.id)
            return list(connection.execute(query).scalars())

    @patient
    def comparisons_with(self, generation: Id) -> list[Id]:
        """The comparisons that were made from a generation."""
        origin = tables.origin.c
        with self._read() as connection:
            query = select(origin.comparison).where(origin.generation == generation).order_by(origin.comparison)
            return list(connection.execute(query).scalars())

    @patient
    def trained_in(self) -> dict[tuple[Id, str], tuple[Id | None, str]]:
        """By job and digest of each checkpoint, the run that trained it (None outside of runs), and when."""
        table = tables.checkpoint.c
        with self._read() as connection:
            query = select(table.id, table.digest, table.run, table.created)
            return {(row.id, row.digest): (row.run, row.created) for row in connection.execute(query)}
