"""Verdicts in bulk: the arrays against the verdicts they were read from, however they are read."""

from __future__ import annotations

import numpy as np
import pytest

from constitution.records import PROBABILITY, LabelRule, Verdict
from storage import evidence

EDGES = [0, 1, PROBABILITY // 2, PROBABILITY - 1, PROBABILITY]


def some_verdicts(comparisons, questions):
    """Numbers from the edges of their ranges; one in five is missing, and one comparison has none."""
    return [
        Verdict(question, comparison, *(EDGES[(i * step + j) % 5] for step in (1, 2, 3, 4)))
        for i, comparison in enumerate(comparisons[1:])
        for j, question in enumerate(questions)
        if (i + 2 * j) % 5
    ]


# Slices that are read as ranges among others, as ranges of their own, and by name.
@pytest.mark.parametrize("few, crowd", [(0, 10), (0, 1), (1_000, 3)])
def test_the_arrays_are_the_verdicts(store, world, monkeypatch, few, crowd):
    for name, value in {"SLICE": 7, "NAMES": 3, "FEW": few, "CROWD": crowd}.items():
        monkeypatch.setattr(evidence, name, value)
    everything, questions = world.fill(store, 40, 4)
    verdicts = some_verdicts(everything, questions)
    store.add_verdicts(verdicts)
    comparisons = [*everything[::2], everything[0]]
    asked = [questions[2], b"never asked 0000", questions[0], questions[2]]

    found = store.evidence(comparisons, asked)
    assert found.comparisons == everything[::2] and found.questions == asked[:3]
    expected = {(v.comparison, v.question): v for v in verdicts}
    for row, comparison in enumerate(found.comparisons):
        for column, question in enumerate(found.questions):
            here, v = (row, column), expected.get((comparison, question))
            assert found.present[here] == (v is not None)
            numbers = (v.p1 + v.p2 - PROBABILITY, v.p1, v.p2, min(v.mass1, v.mass2)) if v else (0, 0, 0, 0)
            assert (found.s[here], found.p1[here], found.p2[here], found.mass[here]) == numbers
    assert (found.s.dtype, found.p1.dtype, found.mass.dtype) == (np.int64, np.int32, np.int32)

    heard = [sum((c, q) in expected for c in found.comparisons) for q in found.questions]
    assert store.count_verdicts(comparisons, asked) == dict(zip(found.questions, heard, strict=True))
    assert heard[0] and heard[1] == 0

    # Labels are made of the same columns: the same ones, whichever way they are read.
    weights, rule = (
        {questions[0]: 3_000, questions[2]: 1_000},
        LabelRule(min_mass=0.0, consistent=False, min_margin=0.1),
    )
    together = store.labels(comparisons, weights, rule)
    assert together == [store.labels([id], weights, rule)[0] for id in found.comparisons]
    assert {label.state for label in together} == {"decided", "tied", "unreadable"}


def test_nothing_asked_is_nothing_found(store, world):
    comparisons, questions = world.fill(store, 3, 1)
    assert store.count_verdicts(comparisons, questions) == {questions[0]: 0}
    assert store.count_verdicts([], questions) == {questions[0]: 0} and store.count_verdicts(comparisons, []) == {}
    assert store.evidence([], questions).s.shape == (0, 1) and store.evidence(comparisons, []).s.shape == (3, 0)
    assert not store.evidence(comparisons, questions).present.any()


def test_ids_that_end_in_zeros_are_told_apart(store):
    """No text type may strip or cut them."""
    ids = [bytes(15) + bytes([last]) for last in range(3)] + [b"a" + bytes(15), b"a\n" + bytes(14), b"\xff" * 16]
    question = bytes(16)
    store.add_verdicts([Verdict(question, id, place, 7, 8, 9) for place, id in enumerate(ids)])
    assert store.evidence(ids[::-1], [question]).p1[:, 0].tolist() == [5, 4, 3, 2, 1, 0]
    assert store.evidence(ids[1::2], [question]).p1[:, 0].tolist() == [1, 3, 5]
