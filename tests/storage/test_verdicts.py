"""Verdicts: one a (comparison, question), the first stays, and what is missing is found by query."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constitution.records import Reason


def test_what_is_missing_is_what_has_no_verdict(store, world):
    comparisons, questions = world.fill(store, 3, 2)
    assert store.missing_verdicts(comparisons, questions) == [(c, q) for c in comparisons for q in questions]
    store.add_verdicts([world.verdict(questions[1], comparisons[0]), world.verdict(questions[0], comparisons[2])])
    assert store.missing_verdicts(comparisons[::-1], questions[::-1]) == [
        (comparisons[2], questions[1]),
        (comparisons[1], questions[1]),
        (comparisons[1], questions[0]),
        (comparisons[0], questions[0]),
    ]
    assert store.missing_verdicts(comparisons[:1], questions[1:]) == []


def test_a_record_that_is_not_stored_is_not_taken_for_an_answered_one(store, world):
    comparisons, questions = world.fill(store, 1, 1)
    with pytest.raises(KeyError, match="1 of 2 questions"):
        store.missing_verdicts(comparisons, [*questions, b"?" * 16])
    with pytest.raises(KeyError, match="1 of 2 comparisons"):
        store.missing_verdicts([*comparisons, b"?" * 16], questions)


def test_the_first_verdict_and_its_reasons_stay(store, world):
    [comparison], [question] = world.fill(store, 1, 1)
    first = replace(world.verdict(question, comparison, 0.25, 0.75), tie1=3, tie2=None)
    late = world.verdict(question, comparison, 1.0, 1.0)
    spoken = Reason(question, comparison, 1, "because \ud800\x00")
    run = store.start_run("key", "judge", {}).id
    store.add_verdicts([first], reasons=[spoken], run=run, stage="judge")
    store.add_verdicts([late], reasons=[replace(spoken, text="late"), replace(spoken, shown=2)])
    assert list(store.verdicts([comparison], [question])) == [first]
    assert list(store.reasons([comparison], [question])) == [spoken, replace(spoken, shown=2)]


def test_questions_come_back_with_what_made_them(store, world):
    _, questions = world.fill(store, 0, 3)
    store.add_questions([world.question(0), world.question(1)], constitution="v1")
    assert store.questions(questions[::-1]) == [world.question(2), world.question(1), world.question(0)]
    assert [question.id for question in store.questions(questions)] == questions
    twin = replace(world.question(0), principle="the same words under another name")
    store.add_questions([twin], constitution="v1")
    assert store.clauses("v1") == {
        "principle-0": [questions[0]],
        "principle-1": [questions[1]],
        "the same words under another name": [questions[0]],
    }
