"""Accuracy of a reward model on pairs that it never saw, by principle, tag and source."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from constitution import loading
from constitution.errors import UserError
from constitution.records import Message, Prompt
from pipeline.known import Known
from service.settings import Settings
from service.work.unseen import accuracies, unseen


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


class Longer:
    """Prefers the longer answer."""

    def score(self, prompts: list[Any], answers: list[str]) -> list[float]:
        return [float(len(answer)) for answer in answers]

    def close(self) -> None:
        pass


class Refuses(Longer):
    def score(self, prompts: list[Any], answers: list[str]) -> list[float]:
        raise UserError("too long")


CONSTITUTION = """
constitution: x
version: 1
principles:
  - id: honest
    title: T
    critique: c
    revision: r
    comparison: Which reply is true?
    examples:
      - {prompt: Why?, better: Because it is so., worse: No.}
      - {prompt: How?, better: So., worse: Not like that.}
      - {prompt: "WHO?", better: Somebody., worse: No.}
"""


def test_what_was_trained_on_is_left_out_and_what_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    trained = [Prompt((Message("user", "Who?"),), "train")]
    work: Any = SimpleNamespace(
        constitution=loading.parse(CONSTITUTION),
        settings=Settings(),
        prompts=lambda split: trained,
        log=said.append,
    )
    monkeypatch.setattr("pipeline.rewards.build", lambda spec: Longer())
    found = unseen(work, ["folder", "another"])
    assert found is not None and (found["n"], found["mean"]) == (2, 0.5) and set(found["by"]) == {"honest", "examples"}
    monkeypatch.setattr("pipeline.rewards.build", lambda spec: Refuses())
    assert unseen(work, ["folder"]) is None and "too long" in said[0]
    work.prompts = lambda split: [Prompt((Message("user", q),), "train") for q in ("Why?", "How?", "Who?")]
    assert unseen(work, ["folder"]) is None
