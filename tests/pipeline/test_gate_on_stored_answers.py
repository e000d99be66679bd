"""The gate on stored answers of the sandbox's models, each known for what it is (`benchmarks/stored_answers.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constitution.records import Generation, Id, Prompt, make_id, messages_of
from pipeline import promote
from pipeline.metrics import style, win_rate
from pipeline.metrics.changes import changes

STORED = Path(__file__).parent / "answers.jsonl"


def stored(name: str, n: int | None = None) -> dict[str, Any]:
    """The evaluation of a model's stored answers against those before, on the first `n` prompts or on all."""
    rows = [json.loads(line) for line in STORED.read_text(encoding="utf-8").splitlines()][:n]
    prompts: dict[Id, Prompt] = {}
    sides: dict[str, list[Generation]] = {"before": [], name: []}
    for row in rows:
        prompt = Prompt(messages_of(row["prompt"]), "heldout", tags=tuple(row["tags"]))
        prompts[prompt.id] = prompt
        for side, answers in sides.items():
            said = row[side]
            ident = make_id(side, prompt=prompt.id.hex())
            answers.append(
                Generation(ident, "response", prompt.id, said["text"], said["finish"], "e", tokens=said["tokens"])
            )
    wins = [row[name]["win"] for row in rows]
    longer = [len(a.text) - len(b.text) for b, a in zip(sides["before"], sides[name], strict=True)]
    controlled = win_rate.controlled(wins, longer).as_dict()
    return {
        "prompts": len(rows), "unreadable": 0.0, "win_rate": win_rate.summary(wins),
        "length_controlled": controlled["mean"], "length_controlled_interval": controlled,
        "changes": changes(prompts, sides["before"], sides[name]),
        "before": style.metrics(prompts, sides["before"]), "after": style.metrics(prompts, sides[name]),
    }  # fmt: skip


def failed(name: str, n: int | None = None) -> list[str]:
    found = promote.decide(promote.Gate(), stored(name, n), None, ratified=True)
    assert found.promoted == (not [r for r in found.reasons if r.startswith("failed")])
    return [r for r in found.reasons if r.startswith("failed")]


def test_a_known_improvement_is_promoted_and_on_too_few_prompts_it_is_not() -> None:
    assert failed("improved") == [] and failed("improved", 100) == []
    (few,) = failed("improved", 99)
    assert "99 held-out prompts were compared, too few to tell: at least 100, so 1 more" in few
    assert any("1 held-out prompts were compared, too few" in reason for reason in failed("improved", 1))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("equal", "win rate 0."),
        ("insulting", "win rate 0."),
        ("refusing", "refusals of harmless requests rose by"),
        ("stock", "answers with stock sentences rose by"),
        ("grown", "length-controlled win rate: it cannot be told: all 120 answers are longer than before"),
        ("cut", "of the answers were cut, at most 5%"),
    ],
)
def test_an_equal_and_a_sabotaged_model_are_refused_each_for_its_reason(name: str, why: str) -> None:
    reasons = failed(name)
    assert any(why in reason for reason in reasons), reasons
    if name in ("refusing", "stock", "cut"):  # the promoted model's answers but for what was put in
        assert not any("; win rate" in reason for reason in reasons)
