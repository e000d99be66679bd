"""Checks as a reward: what code counts, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline import rewards

BAKE = [{"role": "user", "content": "How do I bake?"}]
CODE = [{"role": "user", "content": "Write code."}]
PRINCIPLE = (
    "  - id: {id}\n    title: T\n    critique: C\n    revision: R\n    comparison: Q?\n    weight: {weight}\n{more}"
)
SHORT = "    judge: {method: rule, max_words: 3}\n"
WHOLE = "    judge: {method: rule, ends_sentence: true}\n    when: {rule: {lacks: code}}\n"
TAGGED = "    judge: {method: rule, lacks: sorry}\n    when: {tags: [harmless]}\n"


def score(answers: list[str], prompt: Any = None, **spec: Any) -> list[float]:
    return rewards.build({"kind": "rule", **spec}).score([prompt or BAKE] * len(answers), answers)


@pytest.fixture
def principles(tmp_path: Path) -> str:
    path = tmp_path / "principles.yaml"
    kinds = {"short": (3, SHORT), "whole": (1, WHOLE), "tagged": (9, TAGGED), "kind": (9, "")}
    path.write_text(
        "constitution: x\nversion: 1\nprinciples:\n"
        + "".join(PRINCIPLE.format(id=id, weight=weight, more=more) for id, (weight, more) in kinds.items())
    )
    return str(path)


def test_it_is_the_share_of_the_checks_that_an_answer_keeps() -> None:
    checks = {"max_words": 3, "ends_sentence": True, "language": "en"}
    assert score(["Mix it.", "Mix it", "Mix it and wait"], checks=checks) == pytest.approx([2.5 / 3, 1.5 / 3, 0.5 / 3])
    assert score(["Mix it.", "Mix it"], checks=checks, combine="all") == [0.5, 0.0]


def test_of_a_constitution_it_is_the_weighted_mean_over_its_checked_principles(principles: str) -> None:
    answers = ["Mix it.", "Mix it", "Mix it and wait."]
    assert score(answers, constitution=principles) == [1.0, 0.75, 0.25]
    assert score(answers, CODE, constitution=principles) == [1.0, 1.0, 0.0]  # `whole` is not for code
    assert score(answers, constitution=principles, combine="all") == [1.0, 0.0, 0.0]


def test_its_fingerprint_is_what_determines_it(principles: str) -> None:
    one = rewards.fingerprint({"kind": "rule", "constitution": principles})
    assert one == rewards.build({"kind": "rule", "constitution": principles}).fingerprint
    text = Path(principles).read_text()
    Path(principles).write_text(text.replace("title: T", "title: Another"))
    assert rewards.fingerprint({"kind": "rule", "constitution": principles}) == one
    Path(principles).write_text(text.replace("max_words: 3", "max_words: 4"))
    assert rewards.fingerprint({"kind": "rule", "constitution": principles}) != one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "it needs `checks`, or a `constitution`"),
        ({"checks": {"max_word": 3}}, "max_word: there is no such check"),
        ({"checks": {"max_words": 3}, "combine": "none"}, "combine: it has to be 'share' or 'all'"),
    ],
)
def test_a_mistake_is_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        rewards.check({"kind": "rule", **options})


def test_a_constitution_without_one_is_refused(principles: str) -> None:
    text = Path(principles).read_text()
    Path(principles).write_text(text.replace(SHORT, "").replace(WHOLE, ""))
    with pytest.raises(UserError, match="has no principle whose judge is code, for prompts that code can tell"):
        rewards.check({"kind": "rule", "constitution": principles})
