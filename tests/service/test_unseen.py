"""Accuracy of a reward model on pairs that it never saw, by principle, tag and source."""

from __future__ import annotations

import pytest

from constitution.records import Message
from pipeline.known import Known
from service.work.unseen import accuracies


def pair(question: str, principle: str = "", tags: tuple[str, ...] = (), worse: str = "No.") -> Known:
    return Known((Message("user", question),), "Because.", worse, principle, tags, "set")


def test_accuracies_are_by_prompt_and_by_topic() -> None:
    pairs = [
        pair("Why?", "honest", ("maths",)),
        pair("Why?", "honest", ("maths",), worse="Perhaps."),
        pair("How?", "honest"),
        pair("Who?", tags=("maths",)),
    ]
    found = accuracies(pairs, [1.0, 0.0, 1.0, 0.5])
    assert found["mean"] == pytest.approx((0.5 + 1 + 0.5) / 3) and found["n"] == 3
    assert found["low"] < found["mean"] < found["high"]
    assert set(found["by"]) == {"honest", "maths", "set"}
    assert found["by"]["honest"]["mean"] == 0.75 and found["by"]["honest"]["n"] == 2
    assert found["by"]["maths"]["mean"] == 0.5 and found["by"]["set"]["n"] == 3
    assert accuracies(pairs[2:3], [1.0])["low"] < 1  # one of one is not all of them
