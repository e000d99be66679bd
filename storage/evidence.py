"""Verdicts in bulk: how many there are, and all of them as arrays, for analyses that go through them principle by
principle (lint, leaving one out). Labels need none of this: they are summed in the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, select

from constitution.records import PROBABILITY, Id
from storage import tables
from storage.database import chunks, patient
from storage.labels import Labels, about, require_stored, slices, total, weighed

if TYPE_CHECKING:  # numpy takes as much memory as the rest of the store, which seldom needs it
    import numpy as np
    from numpy.typing import NDArray

BITS = 60  # questions that one sum of powers of two tells apart


@dataclass(frozen=True, slots=True)
class Evidence:
    """Stored verdicts: n comparisons by k questions, in the order in which they were asked for, each once.

    `p1`, `p2`, `mass`: as in `constitution.records.Verdict`, x 1e9; `mass` is the lower of the two. `s` is p1 + p2 - 1.
    Where `present` is false there is no verdict, and the numbers are 0.
    """

    comparisons: list[Id]
    questions: list[Id]
    s: NDArray[np.int64]
    p1: NDArray[np.int32]
    p2: NDArray[np.int32]
    mass: NDArray[np.int32]
    present: NDArray[np.bool_]


class Gathering(Labels):
    def count_verdicts(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> dict[Id, int]:
        """How many of the comparisons have a verdict, by question. Raises KeyError for one that is not stored."""
        counts = dict.fromkeys(questions, 0)
        for part in chunks(list(counts), BITS):
            bits = {question: 1 << place for place, question in enumerate(part)}
            asked = weighed(bits)
            answered = Counter(
                found
                for some in slices(comparisons)
                for _, (found,) in self._tallies(some, asked, [total(asked.c.weight0)])
            )
            for question, bit in bits.items():
                counts[question] = sum(count for found, count in answered.items() if found & bit)
        return counts

    def evidence(self, comparisons: Sequence[Id], questions: Sequence[Id]) -> Evidence:
        """The verdicts as arrays: 21 bytes for each pair of a comparison and a question. Raises KeyError for a
        comparison that is not stored."""
        import numpy as np

        rows = {id: row for row, id in enumerate(dict.fromkeys(comparisons))}
        asked = list(dict.fromkeys(questions))
        shape = (len(rows), len(asked))
        p1, p2, mass = (np.zeros(shape, np.int32) for _ in range(3))
        found = Evidence(list(rows), asked, np.zeros(shape, np.int64), p1, p2, mass, np.zeros(shape, np.bool_))
        for some in slices(rows):
            self._gather(found, some, rows)
        return found

    @patient
    def _gather(self, into: Evidence, some: Sequence[Id], rows: Mapping[Id, int]) -> None:
        """Write the verdicts on a slice's comparisons into the arrays, question by question."""
        import numpy as np

        verdict = tables.verdict.c
        lower = case((verdict.mass1 < verdict.mass2, verdict.mass1), else_=verdict.mass2)
        query = select(verdict.comparison, verdict.p1, verdict.p2, lower)
        with self._read() as connection:
            conditions = about(connection, some)
            for place, question in enumerate(into.questions):
                for here in conditions:
                    stored = connection.execute(query.where(verdict.question == question, here)).all()
                    known = [(rows[id], *numbers) for id, *numbers in stored if id in rows]
                    row, p1, p2, mass = np.array(known, np.int64).reshape(-1, 4).T
                    into.s[row, place] = p1 + p2 - PROBABILITY
                    into.p1[row, place], into.p2[row, place], into.mass[row, place] = p1, p2, mass
                    into.present[row, place] = True
            require_stored(connection, [id for id in some if not into.present[rows[id]].any()])
