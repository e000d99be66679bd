"""A prompt source: questions about chores in a room."""

from collections.abc import Mapping
from typing import Any

from constitution.errors import UserError
from constitution.records import Message, Prompt
from pipeline.sources.source import Splits


def prompts(options: Mapping[str, Any], splits: Splits) -> list[Prompt]:
    if unknown := options.keys() - {"room", "count"}:
        raise UserError(f"chores have no option {', '.join(sorted(unknown))}; they have room and count")
    room = options.get("room", "kitchen")
    asked = [(Message("user", f"How do I do chore {n} of the {room}?"),) for n in range(options.get("count", 20))]
    return [Prompt(messages, splits.of(messages), "chores", ("harmless",)) for messages in asked]
