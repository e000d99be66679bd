"""Prompts of a JSONL or Parquet file: `prompts = "prompts.jsonl"`, or `{source = "file", path = "prompts.jsonl"}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Prompt
from pipeline.sources.rows import read_prompts
from pipeline.sources.source import Splits


def prompts(options: Mapping[str, Any], splits: Splits) -> list[Prompt]:
    """Raises UserError for a file that is not there or of another kind, and that lists bad rows by line."""
    if set(options) != {"path"} or not isinstance(options["path"], str) or not options["path"]:
        raise UserError('a file of prompts has one option, its path: prompts = "prompts.jsonl" in precept.toml')
    return read_prompts(Path(options["path"]), heldout=splits.heldout, dev=splits.dev)
