"""Prompts, human preferences and unlabelled pairs in, from JSONL or Parquet; strings or message lists.

Bad rows are all reported, by line, and skipped only when asked. A prompt's split is given here, once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from constitution.errors import UserError
from constitution.records import Message, Messages, Prompt, Role, Split, split_of

Kind = Literal["prompts", "preferences", "pairs"]
MOST_SHOWN = 20


@dataclass(frozen=True)
class Imported:
    """A row that was read: the prompt, and for pairs its two answers (`better` first for preferences)."""

    prompt: Prompt
    answers: tuple[str, ...] = ()


def read_prompts(path: Path, *, heldout: float, dev: float, skip_bad: bool = False) -> list[Prompt]:
    """Prompts of a file, the first of those that repeat. Raises UserError that lists bad rows by line."""
    rows = read_rows(path, "prompts", heldout=heldout, dev=dev, skip_bad=skip_bad)
    return list({row.prompt.id: row.prompt for row in rows}.values())


def read_rows(
    path: Path, kind: Kind, *, heldout: float, dev: float, skip_bad: bool = False, problems: list[str] | None = None
) -> list[Imported]:
    """Rows of a file. `kind`: prompts (`prompt`), preferences (`prompt`, `chosen`, `rejected`) or pairs (`prompt`,
    `a`, `b`). What was skipped is added to `problems`."""
    found: list[Imported] = []
    bad: list[str] = [] if problems is None else problems
    for line, row in _lines(path, bad):
        try:
            found.append(_read(row, kind, path.stem, heldout, dev))
        except ValueError as error:
            bad.append(f"{path}:{line}: {error}")
    if bad and not skip_bad:
        more = f"\n... and {len(bad) - MOST_SHOWN} more" if len(bad) > MOST_SHOWN else ""
        raise UserError("\n".join(bad[:MOST_SHOWN]) + more + "\nmend these rows, or leave them out with --skip-bad")
    if not found:
        raise UserError(f"{path} has no usable rows")
    return found


def pair_kind(path: Path) -> Kind:
    """Whether a file holds preferences (its first row has `chosen`) or unlabelled pairs."""
    for _, row in _lines(path, []):
        return "preferences" if isinstance(row, dict) and "chosen" in row else "pairs"
    raise UserError(f"{path} has no usable rows")


def _lines(path: Path, bad: list[str]) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq
        from pyarrow import ArrowInvalid

        try:
            yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        except ArrowInvalid as error:
            raise UserError(f"{path} is not a Parquet file: {error}") from None
        return
    if path.suffix not in (".jsonl", ".json"):
        raise UserError(f"{path}: give a .jsonl or a .parquet file")
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            yield number, json.loads(text.decode("utf-8"))
        except UnicodeDecodeError:
            bad.append(f"{path}:{number}: not UTF-8")
        except json.JSONDecodeError as error:
            bad.append(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})")


def _read(row: Any, kind: Kind, source: str, heldout: float, dev: float) -> Imported:
    if isinstance(row, str) and kind == "prompts":
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise ValueError("a row is an object with the key 'prompt'")
    if "prompt" not in row:
        hint = f" (it has {', '.join(map(repr, list(row)[:6]))})" if row else ""
        raise ValueError(f"the key 'prompt' is missing{hint}")
    messages = _messages(row["prompt"], "prompt")
    if messages[-1].role != "user":
        raise ValueError("a prompt ends in a user's turn")
    tags = row.get("tags", ())
    if not isinstance(tags, (list, tuple)) or not all(isinstance(t, str) for t in tags):
        raise ValueError("'tags' is a list of strings")
    split: Split = row.get("split") or split_of(messages, heldout, dev)
    if split not in get_args(Split):
        raise ValueError(f"'split' is one of {', '.join(get_args(Split))}, not {split!r}")
    names = {"prompts": (), "preferences": ("chosen", "rejected"), "pairs": ("a", "b")}[kind]
    answers = []
    for name in names:
        if name not in row:
            raise ValueError(f"the key {name!r} is missing")
        answers.append(_answer(row[name], name))
    if len(answers) == 2 and answers[0] == answers[1]:
        raise ValueError(f"{names[0]!r} and {names[1]!r} are the same text")
    return Imported(Prompt(messages, split, str(row.get("source") or source), tuple(tags)), tuple(answers))


def _messages(value: Any, name: str) -> Messages:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"{name!r} is empty")
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name!r} is a string or a list of messages")
    turns = []
    for place, turn in enumerate(value):
        if not isinstance(turn, dict) or turn.get("role") not in get_args(Role):
            raise ValueError(f"{name}[{place}] needs a 'role' of {', '.join(get_args(Role))}")
        if not isinstance(turn.get("content"), str) or not turn["content"].strip():
            raise ValueError(f"{name}[{place}] needs a 'content' that is text")
        turns.append(Message(turn["role"], turn["content"]))
    return tuple(turns)


def _answer(value: Any, name: str) -> str:
    """An answer's text: a string, or TRL's list of one assistant's message."""
    if isinstance(value, str):
        text = value
    else:
        turns = _messages(value, name)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise ValueError(f"{name!r} is one assistant's message")
        text = turns[0].content
    if not text.strip():
        raise ValueError(f"{name!r} is empty")
    return text
