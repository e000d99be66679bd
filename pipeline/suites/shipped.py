"""The prompts of the suites that ship, written for them: `prompts/NAME.jsonl`, a line each, all of them held out.

    {"prompt": "What is 144 divided by 12?", "tags": ["verbosity"], "right": ["12"]}

`right`: what a right answer says, one of them at least, as whole words; `^` before one: the answer begins with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from constitution.records import Generation, Id, Message, Prompt
from pipeline.checks.check import folded

_FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Asked:
    """A prompt of a suite, and what a right answer to it says (nothing where no answer is right or wrong)."""

    prompt: Prompt
    right: tuple[str, ...] = ()

    def is_right(self, text: str) -> bool | None:
        """None where nothing is known of it. Whether one of the right phrases is there, not whether all of it holds."""
        if not self.right:
            return None
        plain = folded(text).lstrip("\"'*_ ")
        return any(_said(phrase, plain) for phrase in self.right)


def _said(phrase: str, plain: str) -> bool:
    if phrase.startswith("^"):
        return re.match(rf"{re.escape(phrase[1:])}(?!\w)", plain) is not None
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", plain) is not None


@cache
def asked(name: str) -> tuple[Asked, ...]:
    """The prompts of a suite, in the order of its file."""
    found = []
    for line in (_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = Prompt((Message("user", row["prompt"]),), "heldout", f"suite-{name}", tuple(row["tags"]))
        found.append(Asked(prompt, tuple(row.get("right", ()))))
    return tuple(found)


def prompts(name: str) -> list[Prompt]:
    return [one.prompt for one in asked(name)]


def right(name: str, answers: Sequence[Generation]) -> list[float | None]:
    """By answer, whether it is a right one; None where that is not known."""
    by_id: dict[Id, Asked] = {one.prompt.id: one for one in asked(name)}
    found = [by_id[answer.prompt].is_right(answer.text) if answer.prompt in by_id else None for answer in answers]
    return [None if one is None else float(one) for one in found]


def rates(said: Sequence[bool | None]) -> list[float | None]:
    return [None if one is None else float(one) for one in said]
