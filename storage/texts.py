"""Prompts, generations and comparisons: all that has a text.

A text is stored once, under the digest of its content. The first stored answer to a request is the answer: whoever
comes later with another gets the first one back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam, delete, select, update

from constitution.records import (
    PROBABILITY,
    Comparison,
    Generation,
    Id,
    Message,
    Messages,
    Prompt,
    dialogue_id,
    known,
    text_digest,
)
from constitution.tally import HALF
from storage import tables
from storage.claims import Claims, Lease
from storage.database import chunks, patient
from storage.runs import Runs

PAGE = 5_000  # prompts that are read together


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison with its texts, as a judge reads it."""

    comparison: Comparison
    messages: Messages
    first: str
    second: str


class Texts(Runs, Claims):
    @patient
    def add_prompts(self, prompts: Iterable[Prompt]) -> int:
        """Store prompts; returns how many are new. A prompt that is known keeps its first split and source. Its tags
        are those that it was last given: who tags a file that was stored without means it. One without tags takes none
        away. What principles abstained from because a prompt lacked a tag that it has now is to be asked: those
        verdicts go, in the same transaction."""
        by_id: dict[Id, Prompt] = {}
        for prompt in prompts:
            by_id.setdefault(prompt.id, prompt)
        dialogues = [{"id": id, "messages": list(prompt.messages)} for id, prompt in by_id.items()]
        rows = [{"id": id, "split": p.split, "source": p.source, "tags": p.tags} for id, p in by_id.items()]
        with self._write() as connection:
            self._insert_first_wins(connection, tables.dialogue, dialogues)
            new = self._insert_first_wins(connection, tables.prompt, rows)
            self._retag(connection, {id: p.tags for id, p in by_id.items() if p.tags})
            return new

    def _retag(self, connection: Connection, tags: Mapping[Id, tuple[str, ...]]) -> None:
        prompt = tables.prompt.c
        changed = []
        came: dict[Id, tuple[set[str], set[str]]] = {}  # by prompt, the tags that it had and those that it has
        for some in chunks(sorted(tags)):  # in the order of the keys, as they are inserted
            stored = connection.execute(select(prompt.id, prompt.tags).where(prompt.id.in_(some))).all()
            for id, before in sorted(stored):
                if tuple(before) != tags[id]:
                    changed.append({"key": id, "new": tags[id]})
                    came[id] = set(before), set(tags[id])
        if changed:
            update_tags = update(tables.prompt).where(prompt.id == bindparam("key")).values(tags=bindparam("new"))
            connection.execute(update_tags, changed)
            self._reopen(connection, came)

    def _reopen(self, connection: Connection, came: Mapping[Id, tuple[set[str], set[str]]]) -> None:
        """Take back the abstentions that a question's `when` gave prompts for want of a tag that they have now. That a
        prompt has no tag is no evidence of a judge's, so nothing is lost: what abstained for another reason, too (a
        check, a question of its own), abstains again when it is asked."""
        question, verdict, comparison = tables.question.c, tables.verdict.c, tables.comparison.c
        by_tags: dict[frozenset[str], list[Id]] = {}
        for id, readout in connection.execute(select(question.id, question.readout)):
            if wanted := frozenset(readout.get("when", {}).get("tags", ())):
                by_tags.setdefault(wanted, []).append(id)
        for wanted, questions in by_tags.items():
            prompts = sorted(id for id, (had, has) in came.items() if wanted & has and not wanted & had)
            for some in chunks(prompts):
                about = select(comparison.id).where(comparison.prompt.in_(some))
                even = (verdict.p1 == HALF, verdict.p2 == HALF)
                whole = (verdict.mass1 == PROBABILITY, verdict.mass2 == PROBABILITY)
                here = (verdict.question.in_(questions), verdict.comparison.in_(about))
                connection.execute(delete(tables.verdict).where(*here, *even, *whole))

    @patient
    def add_dialogues(self, dialogues: Iterable[Messages]) -> None:
        """Store dialogues that are no prompts: they have no split, so nothing is trained or measured on them."""
        rows = {dialogue_id(messages): list(messages) for messages in dialogues}
        with self._write() as connection:
            self._insert_first_wins(connection, tables.dialogue, [{"id": i, "messages": m} for i, m in rows.items()])

    @patient
    def prompts(
        self, split: str | None = None, source: str | None = None, ids: Sequence[Id] | None = None
    ) -> list[Prompt]:
        """Prompts in the order of `ids` (unknown ones are left out), or else in the order of their ids, which is
        the same whoever imported them, and when."""
        prompt = tables.prompt.c
        query = select(tables.prompt, tables.dialogue.c.messages).join_from(tables.prompt, tables.dialogue)
        if split is not None:
            query = query.where(prompt.split == split)
        if source is not None:
            query = query.where(prompt.source == source)
        with self._read() as connection:
            if ids is None:
                return [_prompt(row) for row in connection.execute(query.order_by(prompt.id))]
            found = _by_id(connection, query, prompt.id, ids)
        return [_prompt(found[id]) for id in ids if id in found]

    def every_prompt(self) -> Iterator[Prompt]:
        """All prompts in the order of their ids, a page of them in memory at a time."""
        last = b""
        while some := self._prompts_after(last):
            yield from some
            last = some[-1].id

    @patient
    def _prompts_after(self, last: Id) -> list[Prompt]:
        prompt = tables.prompt.c
        query = select(tables.prompt, tables.dialogue.c.messages).join_from(tables.prompt, tables.dialogue)
        with self._read() as connection:
            rows = connection.execute(query.where(prompt.id > last).order_by(prompt.id).limit(PAGE))
            return [_prompt(row) for row in rows]

    @patient
    def add_answers(self, texts: Iterable[str]) -> list[Id]:
        """Store texts that no model of ours wrote (imported pairs); returns their digests, in order."""
        answers = [(text_digest(text), text) for text in texts]
        with self._write() as connection:
            self._insert_answers(connection, dict(answers))
        return [content for content, _ in answers]

    @patient
    def add_generations(
        self,
        generations: Sequence[Generation],
        *,
        run: Id | None = None,
        stage: str = "",
        ordinals: Sequence[int] | None = None,
        lease: Lease | None = None,
    ) -> list[Generation]:
        """Store what models wrote, and its slots in a stage of a run, in one transaction.

        Returns what is stored under those ids, in order: another worker may have been first. Raises StaleLease.
        """
        ids = [generation.id for generation in generations]
        with self._write() as connection:
            self._check_lease(connection, lease)
            there = _known(connection, tables.generation, ids)
            self._insert_first_wins(connection, tables.generation, [_generation_row(g) for g in generations])
            stored = _by_id(connection, select(tables.generation), tables.generation.c.id, ids)
            # Only texts that won: the foreign key from generation to answer is checked at the commit.
            won = {g.content: g.text for g in generations if stored[g.id].content == g.content}
            self._insert_answers(connection, won)
            self._enrol(connection, run, stage, ids, ordinals, there)
            found = _by_id(connection, _GENERATIONS, tables.generation.c.id, ids)
        return [_generation(found[id]) for id in ids]

    @patient
    def stored_generations(self, ids: Iterable[Id]) -> set[Id]:
        """Those of the ids that are stored, without what was written."""
        with self._read() as connection:
            return _known(connection, tables.generation, ids)

    @patient
    def have_generations(self, ids: Sequence[Id]) -> dict[Id, Generation]:
        """Those of the ids that are stored, so that nothing is asked twice."""
        with self._read() as connection:
            found = _by_id(connection, _GENERATIONS, tables.generation.c.id, ids)
        return {id: _generation(row) for id, row in found.items()}

    def generations(self, ids: Sequence[Id]) -> list[Generation]:
        """Generations in the order of `ids`. Raises KeyError for an unknown one."""
        found = self.have_generations(ids)
        return [found[id] for id in ids]

    def generations_of(self, run: Id, stage: str) -> list[Generation]:
        """A stage's generations in the order of their slots."""
        return self.generations(self.stage_members(run, stage))

    @patient
    def generations_about(self, run: Id, stage: str, prompts: Sequence[Id]) -> list[Generation]:
        """Those of a stage's generations that are about some prompts, in the order of their slots."""
        generation, member = tables.generation.c, tables.member.c
        slots: dict[Id, int] = {}
        with self._read() as connection:
            ids: list[Id] = []
            for some in chunks(sorted(set(prompts))):
                ids += connection.execute(select(generation.id).where(generation.prompt.in_(some))).scalars()
            query = select(member.id, member.ordinal).where(member.run == run, member.stage == stage)
            for some in chunks(sorted(ids)):
                slots |= {row.id: row.ordinal for row in connection.execute(query.where(member.id.in_(some)))}
            found = _by_id(connection, _GENERATIONS, generation.id, slots)
        return [_generation(found[id]) for id in sorted(slots, key=slots.__getitem__)]

    @patient
    def add_comparisons(
        self,
        comparisons: Sequence[Comparison],
        *,
        origins: Sequence[Sequence[Id]] | None = None,
        run: Id | None = None,
        stage: str = "",
        ordinals: Sequence[int] | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Store comparisons and their slots. `origins`: for each one the generations it was made from."""
        ids = [comparison.id for comparison in comparisons]
        created = int(time.time())
        rows = [
            {"id": id, "prompt": c.prompt, "first": c.first, "second": c.second, "created": created}
            for id, c in zip(ids, comparisons, strict=True)
        ]
        links = [
            {"comparison": id, "generation": generation}
            for id, sources in zip(ids, origins or [()] * len(ids), strict=True)
            for generation in sources
        ]
        with self._write() as connection:
            self._check_lease(connection, lease)
            there = _known(connection, tables.comparison, ids)
            self._insert_first_wins(connection, tables.comparison, rows)
            self._insert_first_wins(connection, tables.origin, links)
            self._enrol(connection, run, stage, ids, ordinals, there)

    @patient
    def pairs(self, comparisons: Sequence[Id]) -> list[Pair]:
        """Comparisons with their texts, in the order of the ids. Raises KeyError for an unknown one."""
        with self._read() as connection:
            found = _by_id(connection, _PAIRS, tables.comparison.c.id, comparisons)
        return [_pair(found[id]) for id in comparisons]

    @patient
    def comparisons(self, ids: Sequence[Id]) -> list[Comparison]:
        """Comparisons, without their texts, in the order of `ids`. Raises KeyError for an unknown one."""
        with self._read() as connection:
            found = _by_id(connection, select(tables.comparison), tables.comparison.c.id, ids)
        return [Comparison(found[id].prompt, found[id].first, found[id].second) for id in ids]

    @patient
    def origins(self, comparisons: Sequence[Id]) -> dict[Id, list[Id]]:
        """The generations that each comparison was ever made from, by comparison."""
        origin = tables.origin.c
        found: dict[Id, list[Id]] = {id: [] for id in comparisons}
        with self._read() as connection:
            for some in chunks(sorted(found)):
                query = select(tables.origin).where(origin.comparison.in_(some))
                for row in connection.execute(query.order_by(origin.comparison, origin.generation)):
                    found[row.comparison].append(row.generation)
        return found

    def _insert_answers(self, connection: Connection, texts: Mapping[Id, str]) -> None:
        created = int(time.time())
        rows = [{"content": content, "text": text, "created": created} for content, text in texts.items()]
        self._insert_first_wins(connection, tables.answer, rows)


# --- rows to records and back --------------------------------------------------------------------------------------

_GENERATIONS = select(tables.generation, tables.answer.c.text).join_from(tables.generation, tables.answer)
_first = tables.answer.alias("first_answer")
_second = tables.answer.alias("second_answer")
_PAIRS = (
    select(tables.comparison, tables.dialogue.c.messages, _first.c.text.label("a"), _second.c.text.label("b"))
    .join_from(tables.comparison, tables.dialogue)
    .join(_first, tables.comparison.c.first == _first.c.content)
    .join(_second, tables.comparison.c.second == _second.c.content)
)


def _by_id(connection: Connection, query: Select[Any], column: Any, ids: Iterable[Id]) -> dict[Id, Row[Any]]:
    """Rows of a query by their `id`, asked for in chunks."""
    found = {}
    for some in chunks(sorted(set(ids))):
        for row in connection.execute(query.where(column.in_(some))):
            found[row.id] = row
    return found


def _known(connection: Connection, table: Table, ids: Iterable[Id]) -> set[Id]:
    return set(_by_id(connection, select(table.c.id), table.c.id, ids))


def _messages(rows: Sequence[Mapping[str, Any]]) -> Messages:
    return tuple(Message(row["role"], row["content"]) for row in rows)


def _prompt(row: Row[Any]) -> Prompt:
    return known(Prompt(_messages(row.messages), row.split, row.source, tuple(row.tags)), row.id)


def _generation_row(generation: Generation) -> dict[str, Any]:
    fields = ("id", "kind", "prompt", "content", "parent", "principle", "round", "sample")
    more = ("finish_reason", "engine", "prompt_tokens", "tokens")
    return {name: getattr(generation, name) for name in fields + more} | {"created": int(time.time())}


def _generation(row: Row[Any]) -> Generation:
    fields = dict(row._mapping)
    content = fields.pop("content")
    del fields["created"]
    return known(Generation(**fields), content)


def _pair(row: Row[Any]) -> Pair:
    return Pair(known(Comparison(row.prompt, row.first, row.second), row.id), _messages(row.messages), row.a, row.b)
