"""Prompts of a file: `prompts = "prompts.jsonl"`, or `{path = "x.csv", map = {prompt = "question"}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Prompt
from pipeline.sources.rows import read_prompts
from pipeline.sources.source import Splits


def prompts(options: Mapping[str, Any], splits: Splits) -> Sequence[Prompt]:
    """Raises UserError for a file that is not there or of another kind, and that lists bad rows by line."""
    path, names, skip_bad = located(options, "prompts")
    return read_prompts(path, heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, names=names)


def located(where: str | Mapping[str, Any], setting: str) -> tuple[Path, dict[str, str], bool]:
    """What a setting that names a file says: its path, its columns by the names that they have here, and whether bad
    rows are left out. Raises UserError for options of another kind."""
    given: Mapping[str, Any] = {"path": where} if isinstance(where, str) else where
    path, names, skip_bad = given.get("path"), given.get("map", {}), given.get("skip_bad", False)
    known = not given.keys() - {"source", "path", "map", "skip_bad"}
    if (
        not known
        or not isinstance(path, str)
        or not path
        or not isinstance(names, dict)
        or not isinstance(skip_bad, bool)
    ):
        raise UserError(
            f'a file has its path, and may have a map of its columns and skip_bad: {setting} = "x.jsonl", or {setting} '
            f'= {{path = "x.csv", map = {{prompt = "question"}}, skip_bad = true}}'
        )
    return Path(path), names, skip_bad
