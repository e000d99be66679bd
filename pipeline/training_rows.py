"""Rows of a training data set, read and checked before anything heavy is loaded.

Every message is one line: file, line, what is wrong. Token lengths need the tokenizer and are checked in
`pipeline.trainers.fitting`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError

ROLES = ("system", "user", "assistant")


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a JSONL data set, cut to `columns`, each with its line number as `line`.

    Raises UserError for the first bad row, telling how many more there are.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except OSError as error:
        raise UserError(f"{path}: the data set cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the data set is not UTF-8 text; it must be JSON Lines") from None
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row, problem = _parse(line, columns)
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            rows.append({**row, "line": number})
    if problems:
        more = f" ({len(problems) - 1} more bad rows)" if len(problems) > 1 else ""
        raise UserError(f"{path}, {problems[0]}{more}")
    if not rows:
        raise UserError(f"{path}: the data set is empty; it needs rows with {', '.join(columns)}")
    return rows


def check_preferences(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError where there are preference rows and none of them prefers one answer to the other."""
    if rows and all(row.get("p") == 0.5 for row in rows):
        raise UserError(
            f"{path}: every row is a tie (p is 0.5), so there is nothing to learn; label the pairs with a judge that "
            "tells them apart"
        )


def _parse(line: str, columns: Sequence[str]) -> tuple[dict[str, Any], str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        return {}, f"not JSON: {error}"
    if not isinstance(row, dict):
        return {}, "a row is one JSON object"
    if missing := [column for column in columns if column not in row]:
        return {}, f"the row lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}"
    row = {column: row[column] for column in columns}
    for column in columns:
        if column not in ("p", "label", "answer") and (problem := _check_messages(row[column])):
            return {}, f"{column}: {problem}"
    if "prompt" in row and row["prompt"][-1]["role"] == "assistant":
        return {}, "prompt: the last message is the assistant's; it must be the one that is answered"
    for column in ("completion", "chosen", "rejected"):
        if column in row and row[column][0]["role"] != "assistant":
            return {}, f"{column}: the first message must be the assistant's, not the {row[column][0]['role']}'s"
    if "chosen" in row and row["chosen"] == row.get("rejected"):
        return {}, "chosen and rejected are the same answer"
    if "answer" in row and not isinstance(row["answer"], str):
        return {}, f"answer must be a text, not {type(row['answer']).__name__}"
    if "label" in row and not isinstance(row["label"], bool):
        return {}, f"label must be true (a good answer) or false, not {row['label']!r}"
    if "p" in row and (problem := _check_probability(row["p"])):
        return {}, problem
    return row, ""


def _check_messages(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return 'must be a list of messages like [{"role": "user", "content": "..."}]'
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return 'every message must be like {"role": "user", "content": "..."}'
        if message.get("role") not in ROLES:
            return f"unknown role {message.get('role')!r}; the roles are {', '.join(ROLES)}"
    return ""


def _check_probability(p: Any) -> str:
    if isinstance(p, bool) or not isinstance(p, int | float) or not math.isfinite(p):
        return f"p must be a number, not {p!r}"
    if not 0.5 <= p <= 1:
        return f"p is {p}; it is the probability that `chosen` is the better, in [0.5, 1]: swap the two if it is less"
    return ""
