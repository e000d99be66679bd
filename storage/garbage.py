"""Throwing away what nothing needs any more.

What is needed: members of runs that are not archived or that made a checkpoint; questions of versions that are
ratified or that a kept run or a checkpoint names; comparisons that people judged; and all that these stand on.
Of the rest goes what is older than the grace period and not claimed. Prompts, events, documents, runs and
checkpoints stay: they are what people brought or decided.
"""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, Connection, Delete, Table, delete, exists, or_, select

from storage import tables
from storage.amendments import KIND as RATIFICATION
from storage.database import patient
from storage.registry import PROMOTION_KINDS, PROPOSAL
from storage.runs import Run, Runs


class Garbage(Runs):
    @patient
    def archivable(self, before: str) -> list[Run]:
        """Runs that may be archived, the oldest first: finished or failed before a time (ISO 8601, UTC), and no
        checkpoint of theirs is or was promoted."""
        run, checkpoint, event = tables.run.c, tables.checkpoint.c, tables.event.c
        promoted = exists().where(
            checkpoint.run == run.id, event.target == checkpoint.digest, event.kind.in_((*PROMOTION_KINDS, PROPOSAL))
        )
        ended = (run.status.in_(("finished", "failed")), run.created < before, run.finished < before)
        query = select(tables.run).where(*ended, run.archived.is_(None), ~promoted)
        with self._read() as connection:
            return [self._run_of(row) for row in connection.execute(query.order_by(run.created, run.id))]

    def collect(self, grace_seconds: float, dry_run: bool = False) -> dict[str, int]:
        """Delete what nothing needs, in one transaction without other writers; returns deleted rows by table.

        `dry_run`: count them, and delete nothing. Writers wait for that as well.
        """
        return self._collect(int(time.time() - grace_seconds), dry_run)

    @patient
    def _collect(self, before: int, dry_run: bool) -> dict[str, int]:
        with self._write(alone=True) if self._absent is None else self._read() as connection:
            gone = _delete(connection, before)
            if dry_run:
                connection.rollback()
            return gone


def _delete(connection: Connection, before: int) -> dict[str, int]:
    def count(*deletes: Delete) -> int:
        return sum(connection.execute(one).rowcount for one in deletes)

    # Foreign keys are checked at the commit, so parents may go before what points at them.
    return {
        "claim": count(delete(tables.claim).where(tables.claim.c.expires < int(time.time()))),
        "member": count(delete(tables.member).where(tables.member.c.run.not_in(_kept_runs()))),
        "comparison": count(_forgotten(tables.comparison, before, ~_is_about(tables.comparison))),
        "question": count(_forgotten(tables.question, before, ~_asked())),
        "clause": count(_orphans(tables.clause, tables.question)),
        "verdict": count(*(_orphans(tables.verdict, noun) for noun in (tables.comparison, tables.question))),
        "reason": count(*(_orphans(tables.reason, noun) for noun in (tables.comparison, tables.question))),
        "origin": count(_orphans(tables.origin, tables.comparison)),
        "generation": _collect_generations(connection, before),
        "answer": count(_unread_answers(before)),
    }


def _kept_runs() -> ColumnElement[bytes]:
    run, checkpoint = tables.run.c, tables.checkpoint.c
    kept = or_(run.archived.is_(None), exists().where(checkpoint.run == run.id))
    return select(run.id).where(kept).scalar_subquery()


def _forgotten(table: Table, before: int, *unneeded: ColumnElement[bool]) -> Delete:
    """Old rows of a table that no run and no claim holds."""
    member = exists().where(tables.member.c.id == table.c.id)
    claimed = exists().where(tables.claim.c.id == table.c.id)
    return delete(table).where(table.c.created < before, ~member, ~claimed, *unneeded)


def _is_about(comparisons: Table) -> ColumnElement[bool]:
    return exists().where(tables.event.c.about == comparisons.c.id)


def _asked() -> ColumnElement[bool]:
    """A version of the constitution that must stay free to go back to asks this question."""
    clause, checkpoint, run, event = tables.clause.c, tables.checkpoint.c, tables.run.c, tables.event.c
    needed = or_(
        clause.constitution.in_(select(event.target).where(event.kind == RATIFICATION)),
        clause.constitution.in_(select(checkpoint.constitution)),
        clause.constitution.in_(select(run.constitution).where(run.id.in_(_kept_runs()))),
    )
    return exists().where(clause.question == tables.question.c.id, needed)


def _orphans(table: Table, parent: Table) -> Delete:
    """Rows about a comparison or a question that is gone."""
    return delete(table).where(~exists().where(parent.c.id == table.c[parent.name]))


def _collect_generations(connection: Connection, before: int) -> int:
    """Leaves first: a generation stays while one that is kept was made from it."""
    child = tables.generation.alias("child")
    is_parent = exists().where(child.c.parent == tables.generation.c.id)
    compared = exists().where(tables.origin.c.generation == tables.generation.c.id)
    total = 0
    while gone := connection.execute(_forgotten(tables.generation, before, ~is_parent, ~compared)).rowcount:
        total += gone
    return total


def _unread_answers(before: int) -> Delete:
    content = tables.answer.c.content
    generation, comparison = tables.generation.c, tables.comparison.c
    uses = (generation.content == content, comparison.first == content, comparison.second == content)
    return delete(tables.answer).where(tables.answer.c.created < before, *(~exists().where(use) for use in uses))
