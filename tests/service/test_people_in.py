"""People's preferences for the reward model: not on what opens like a held-out prompt, and no two certain rows of two
who say the opposite."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from constitution.records import Message, Prompt
from service.settings import RewardSettings, SplitSettings
from service.work import learning


def test_what_opens_like_a_held_out_prompt_stays_out_and_opposite_answers_cancel(tmp_path: Path) -> None:
    again = [
        {"role": "user", "content": "tell me a joke"},
        {"role": "assistant", "content": "Which?"},
        {"role": "user", "content": "Any."},
    ]
    rows: list[dict[str, Any]] = [
        {"q": again, "chosen": "x", "rejected": "y", "split": "train"},
        *({"q": "Kept.", "chosen": x, "rejected": y, "split": "train"} for x, y in ("xy", "xy", "yx")),
        *({"q": "Torn.", "chosen": x, "rejected": y, "split": "train"} for x, y in ("xy", "yx")),
        {"q": "Sure.", "chosen": "x", "rejected": "y", "split": "train", "p": 0.9},
    ]
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard: list[str] = []
    held = Prompt((Message("user", "Tell me a joke!"),), "heldout")
    work: Any = SimpleNamespace(
        settings=SimpleNamespace(splits=SplitSettings(), seed=0), log=heard.append,
        prompts=lambda split: [held] if split == "heldout" else [],
    )  # fmt: skip
    settings = RewardSettings(human={"path": str(file), "map": {"prompt": "q"}}, human_share=0.5)
    ai = [{"prompt": [], "chosen": [], "rejected": [], "p": 1.0}] * 2
    blended = list(learning._with_people(work, settings, ai))[2:]
    assert [(row["prompt"][0]["content"], row["chosen"][0]["content"], round(row["p"], 3)) for row in blended] == [
        ("Kept.", "x", 0.667), ("Sure.", "x", 0.9),
    ]  # fmt: skip
    assert any("1 of people's pairs open as prompts that are held out" in text for text in heard)
