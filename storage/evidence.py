"""Verdicts in bulk, as arrays: what labels are computed from, and analyses (lint, leaving a principle out).

A driver takes longer to hand a verdict over than a database to find it. So the database writes the verdicts of one
question on a range of comparisons into one text, of records that are all as wide: the comparison's id in hex, and
numbers with a fixed count of digits. numpy reads that. For 100,000 comparisons x 16 questions this is faster than sums
in SQL, grouped by comparison, on SQLite and on Postgres, and for two weightings twice as fast: the work is the same.

Verdicts lie in the order of (question, comparison), so many comparisons are read as a few ranges of ids. By name they
take twice as long on SQLite, and on Postgres each list of names is a scan of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, Connection, Text, case, cast, func, select

from constitution.records import PROBABILITY, Id
from storage import tables
from storage.database import Database, chunks, patient

SLICE = 25_000  # comparisons that are read as one
AT_ONCE = 2  # slices that a Postgres server reads at once; SQLite's threads would wait for its one allocator
NAMES = 10_000  # ids in one query where each is named: well under every driver's limit of parameters
FEW = 500  # so few are named without a look at who else is in their range
CROWD = 3  # a range is read whole where it holds at most so many times the comparisons that are wanted

HEX = 32  # digits of an id
LIMIT = 10**10  # of a number; it is added to each, so that all are as wide
DIGITS = 11
POWERS = 10 ** np.arange(DIGITS - 1, -1, -1, dtype=np.int64)

Integers: TypeAlias = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Stored verdicts: n comparisons by k questions, in the order in which they were asked for, each once.

    `p1`, `p2`, `mass`: as in `constitution.records.Verdict`, x 1e9; `mass` is the lower of the two. `s` is p1 + p2 - 1.
    Where `present` is false there is no verdict, and the numbers are 0.
    """

    comparisons: list[Id]
    questions: list[Id]
    s: Integers
    p1: NDArray[np.int32]
    p2: NDArray[np.int32]
    mass: NDArray[np.int32]
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answers:
    """The verdicts on one question within a slice. `places`: of their comparisons in the slice. `numbers`: one row a
    number that was asked for, one column a verdict."""

    question: Id
    places: Integers
    numbers: Integers


class Gathering(Database):
    def count_verdicts(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> dict[Id, int]:
        """How many of the comparisons have a verdict, by question."""
        counts = dict.fromkeys(questions, 0)
        for _, found in self._in_slices(comparisons, lambda some: self._answers(some, list(counts))):
            for answers in found:
                counts[answers.question] += len(answers.places)
        return counts

    def evidence(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> Evidence:
        """The stored verdicts, 21 bytes for each pair of a comparison and a question."""
        rows = {id: row for row, id in enumerate(dict.fromkeys(comparisons))}
        columns = {id: column for column, id in enumerate(dict.fromkeys(questions))}
        shape = (len(rows), len(columns))
        p1, p2, mass = (np.zeros(shape, np.int32) for _ in range(3))
        s, present = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        verdict = tables.verdict.c
        lower = case((verdict.mass1 < verdict.mass2, verdict.mass1), else_=verdict.mass2)
        numbers = [digits(number) for number in (verdict.p1, verdict.p2, lower)]
        for some, answered in self._in_slices(rows, lambda some: self._answers(some, list(columns), *numbers)):
            row_of = np.array([rows[id] for id in some], np.int64)
            for answers in answered:
                here = row_of[answers.places], columns[answers.question]
                p1[here], p2[here], mass[here] = answers.numbers
                s[here] = answers.numbers[0] + answers.numbers[1] - PROBABILITY
                present[here] = True
        return Evidence(list(rows), list(columns), s, p1, p2, mass, present)

    def _in_slices(
        self, comparisons: Iterable[Id], work: Callable[[Sequence[Id]], T]
    ) -> Iterator[tuple[Sequence[Id], T]]:
        """The comparisons, each once and in the order of their ids, in slices, each with what `work` makes of it."""
        slices = list(chunks(sorted(set(comparisons)), SLICE))
        if self._is_sqlite or len(slices) < 2:
            yield from ((some, work(some)) for some in slices)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from zip(slices, pool.map(work, slices), strict=True)

    @patient
    def _answers(self, some: Sequence[Id], questions: Sequence[Id], *columns: ColumnElement[str]) -> list[Answers]:
        """The columns, as `digits` writes numbers, of every verdict on a slice's comparisons, question by question."""
        verdict = tables.verdict.c
        id = verdict.comparison
        record: ColumnElement[str] = cast(func.hex(id) if self._is_sqlite else func.encode(id, "hex"), Text)
        for column in columns:
            record = record.concat(column)
        query = select(verdict.question, func.aggregate_strings(record, "")).group_by(verdict.question)
        with self._read() as connection:
            texts = [
                (question, text)
                for here in about(connection, some)
                for question, text in connection.execute(query.where(verdict.question.in_(questions), here))
            ]
        whole, place = b"".join(some), {id: place for place, id in enumerate(some)}
        return [_parse(question, text, len(columns), whole, place) for question, text in texts]

    @patient
    def _require_stored(self, comparisons: Collection[Id]) -> None:
        """Raise KeyError for comparisons that are not stored."""
        id = tables.comparison.c.id
        with self._read() as connection:
            counts = (select(func.count()).where(id.in_(some)) for some in chunks(list(comparisons), NAMES))
            unknown = len(comparisons) - sum(connection.execute(count).scalar_one() for count in counts)
        if unknown:
            raise KeyError(f"{unknown} of the comparisons are not in the store")


def about(connection: Connection, some: Sequence[Id]) -> list[ColumnElement[bool]]:
    """Conditions on `verdict` that find, one after the other, all rows about the comparisons of a slice.

    They may find rows about others, which the caller leaves out.
    """
    here = tables.verdict.c.comparison
    if len(some) > FEW:
        known = select(func.count()).where(tables.comparison.c.id.between(some[0], some[-1]))
        if connection.execute(known).scalar_one() <= CROWD * len(some):
            return [here.between(some[0], some[-1])]
    return [here.in_(names) for names in chunks(some, NAMES)]


def digits(number: ColumnElement[int]) -> ColumnElement[str]:
    """A number from 0 up to LIMIT as text, always as long."""
    return cast(cast(number, BigInteger) + cast(LIMIT, BigInteger), Text)


def _parse(question: Id, text: str, columns: int, whole: bytes, place: Mapping[Id, int]) -> Answers:
    """Read records, and leave out those about comparisons that have no place in the slice."""
    records = np.frombuffer(text.encode("ascii"), np.uint8).reshape(-1, HEX + DIGITS * columns)
    places = _places(bytes.fromhex(records[:, :HEX].tobytes().decode("ascii")), whole, place)
    wanted = places >= 0
    places, numbers = places[wanted], records[wanted, HEX:] - ord("0")
    return Answers(question, places, (numbers.reshape(len(places), columns, DIGITS) @ POWERS).T - LIMIT)


def _places(ids: bytes, whole: bytes, place: Mapping[Id, int]) -> Integers:
    """The places of ids that are written one after the other, in any order; -1 for one that has none."""
    each = np.frombuffer(ids, "V16")
    order = np.argsort(np.frombuffer(ids, ">u8")[::2].astype(np.uint64))
    if each[order].tobytes() == whole:  # all of the slice, and no other: no need to look up each
        places = np.empty(len(each), np.int64)
        places[order] = np.arange(len(each))
        return places
    return np.fromiter(map(place.get, each.tolist(), repeat(-1)), np.int64, len(each))
