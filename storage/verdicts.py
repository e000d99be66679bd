"""Questions, and what judges answered to them about comparisons.

Evidence only: what counts as unreadable, tied or an abstention is decided in `labels.py`, by query.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Column, Row, Table, exists, insert, select, true

from constitution.records import Id, Question, Reason, Verdict
from storage import tables
from storage.claims import Claims, Lease
from storage.database import chunks, patient
from storage.runs import Runs


class Verdicts(Runs, Claims):
    @patient
    def add_questions(
        self, questions: Sequence[Question], *, constitution: str | None = None, run: Id | None = None, stage: str = ""
    ) -> None:
        """Store questions; those of a version of the constitution are tied to it, and last as long as it does."""
        created = int(time.time())
        rows = [
            {
                "id": question.id,
                "judge": question.judge,
                "readout": question.readout,
                "skeleton": question.template,
                "principle": question.principle,
                "created": created,
            }
            for question in questions
        ]
        clauses = [{"constitution": constitution, "principle": row["principle"], "question": row["id"]} for row in rows]
        with self._write() as connection:
            self._insert_first_wins(connection, tables.question, rows)
            if constitution is not None:
                self._insert_first_wins(connection, tables.clause, clauses)
            self._enrol(connection, run, stage, [question.id for question in questions], None, set())

    @patient
    def questions(self, ids: Sequence[Id]) -> list[Question]:
        """Questions in the order of `ids`. Raises KeyError for an unknown one."""
        with self._read() as connection:
            rows = connection.execute(select(tables.question).where(tables.question.c.id.in_(set(ids))))
            found = {row.id: Question(row.judge, row.readout, row.skeleton, row.principle) for row in rows}
        return [found[id] for id in ids]

    @patient
    def clauses(self, constitution: str) -> dict[str, list[Id]]:
        """The questions that each principle of a version of the constitution was ever turned into."""
        clause = tables.clause.c
        query = select(clause.principle, clause.question).where(clause.constitution == constitution)
        found: dict[str, list[Id]] = {}
        with self._read() as connection:
            for principle, question in connection.execute(query.order_by(clause.principle, clause.question)):
                found.setdefault(principle, []).append(question)
        return found

    @patient
    def add_verdicts(
        self,
        verdicts: Sequence[Verdict],
        *,
        reasons: Sequence[Reason] = (),
        run: Id | None = None,
        stage: str = "",
        lease: Lease | None = None,
    ) -> None:
        """Store verdicts, their reasons and who asked, in one transaction. The first verdict stays.

        Their comparisons and questions are stored before. Raises StaleLease.
        """
        with self._write() as connection:
            self._check_lease(connection, lease)
            origin = {"run": run, "stage": stage, "created": int(time.time())}
            batch = connection.execute(insert(tables.batch).returning(tables.batch.c.id), origin).scalar_one()
            rows = [_verdict_row(verdict, batch) for verdict in verdicts]
            self._insert_first_wins(connection, tables.verdict, rows)
            self._insert_first_wins(connection, tables.reason, [asdict(reason) for reason in reasons])

    def missing_verdicts(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> list[tuple[Id, Id]]:
        """(comparison, question) of all that has no verdict yet, comparisons in their order, then questions.

        Raises KeyError when a comparison or a question is not stored.
        """
        place = {id: index for index, id in enumerate(questions)}
        _require(self._count_known(tables.question.c.id, list(place)), len(place), "question")
        missing: list[tuple[Id, Id]] = []
        for some in chunks(list(dict.fromkeys(comparisons))):
            _require(self._count_known(tables.comparison.c.id, some), len(some), "comparison")
            order = {id: index for index, id in enumerate(some)}
            missing += sorted(self._missing(some, list(place)), key=lambda pair: (order[pair[0]], place[pair[1]]))
        return missing

    def without_verdict(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> set[tuple[Id, Id]]:
        """As `missing_verdicts`, in no order, of comparisons and questions that are known to be stored."""
        return {pair for some in chunks(comparisons) for pair in self._missing(some, questions)}

    @patient
    def _missing(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> list[tuple[Id, Id]]:
        comparison, question, verdict = tables.comparison.c.id, tables.question.c.id, tables.verdict.c
        answered = exists().where(verdict.question == question, verdict.comparison == comparison)
        query = (
            select(comparison, question)
            .join_from(tables.comparison, tables.question, true())
            .where(comparison.in_(comparisons), question.in_(questions), ~answered)
        )
        with self._read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    @patient
    def _count_known(self, column: Column[Any], ids: Sequence[Id]) -> int:
        with self._read() as connection:
            return len(connection.execute(select(column).where(column.in_(ids))).all())

    @patient
    def judged_comparisons(self, aside: Sequence[str] = ()) -> list[Id]:
        """Every comparison that has a verdict, by id; without those of the stages `aside`, whatever the run."""
        member, verdict = tables.member.c, tables.verdict.c
        # One pass over the verdicts: their key begins with the question, so none can be found by comparison.
        answered = tables.comparison.c.id.in_(select(verdict.comparison).distinct())
        left_out = exists().where(member.id == tables.comparison.c.id, member.stage.in_(aside))
        query = select(tables.comparison.c.id).where(answered, ~left_out).order_by(tables.comparison.c.id)
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def verdicts(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> Iterator[Verdict]:
        """The stored verdicts among these, read in chunks: for a report or an export, not for labels."""
        names = [field.name for field in fields(Verdict)]
        for some in chunks(list(dict.fromkeys(comparisons))):
            for row in self._rows_about(tables.verdict, names, some, questions):
                yield Verdict(**row._mapping)

    def reasons(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> Iterator[Reason]:
        """What reasoned judges wrote about these."""
        names = [field.name for field in fields(Reason)]
        for some in chunks(list(dict.fromkeys(comparisons))):
            for row in self._rows_about(tables.reason, names, some, questions):
                yield Reason(**row._mapping)

    @patient
    def _rows_about(
        self, table: Table, names: Sequence[str], comparisons: Sequence[Id], questions: Sequence[Id]
    ) -> Sequence[Row[Any]]:
        comparison, question = table.c.comparison, table.c.question
        here = (comparison.in_(comparisons), question.in_(questions))
        query = select(*(table.c[name] for name in names)).where(*here).order_by(comparison, question)
        with self._read() as connection:
            return connection.execute(query).all()


def _verdict_row(verdict: Verdict, batch: int) -> dict[str, Any]:
    return {
        "question": verdict.question,
        "comparison": verdict.comparison,
        "p1": verdict.p1,
        "p2": verdict.p2,
        "mass1": verdict.mass1,
        "mass2": verdict.mass2,
        "tie1": verdict.tie1,
        "tie2": verdict.tie2,
        "batch": batch,
    }


def _require(found: int, wanted: int, noun: str) -> None:
    if found != wanted:
        raise KeyError(f"{wanted - found} of {wanted} {noun}s are not in the store")
