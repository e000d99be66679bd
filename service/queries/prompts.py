"""Prompts as rows of a file: what `pipeline.sources` reads, with the split that they have."""

from __future__ import annotations

from typing import Any

from constitution.records import Prompt
from pipeline.assemble import messages


def row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a line of JSONL says it."""
    return {
        "prompt": messages(prompt.messages), "split": prompt.split, "source": prompt.source, "tags": list(prompt.tags)
    }  # fmt: skip
