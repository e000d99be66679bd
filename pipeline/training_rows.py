"""Rows of a training data set, read and checked before anything heavy is loaded.

Any file that `sources.files` reads, in any shape of `sources.shapes`; a row that has the columns already, as messages,
is taken as it is. Every message is one line: file, line (or row), what is wrong. Token lengths need the tokenizer and
are checked in `pipeline.trainers.fitting`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from constitution.errors import UserError
from constitution.records import LabelRule, Messages, Split, messages_of, split_group
from pipeline.sources import files, shapes
from pipeline.sources.rows import split_in

ROLES = ("system", "user", "assistant")
Row = dict[str, Any]


def read_rows(path: Path, columns: Sequence[str], names: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a data set, cut to `columns`, each with its line (or row) number as `line`; a ranking is several.
    `names`: columns of the file by the names that they have here.

    Raises UserError for the first bad row, telling how many more there are.
    """
    return [row for row, _ in _rows(path, columns, names or {})]


@dataclass(frozen=True)
class Chosen:
    """Rows to train on, and how many others of their file stay out, by reason."""

    rows: list[Row]
    left_out: dict[str, int]


def to_train_on(
    path: Path, columns: Sequence[str], names: Mapping[str, str] | None = None, away: Collection[str] = ()
) -> Chosen:
    """The rows of a data set that may be trained on: not those that the file itself holds out (a `split`), nor those
    that open as what is held out elsewhere does (`away`: openings, as `records.split_group` has them). A pair that the
    file has both ways is one row, with what the two say together, or none where that is a tie. Raises as `read_rows`.
    """
    held = opened = 0
    rows: list[Row] = []
    for row, split in _rows(path, columns, names or {}):
        if split not in (None, "train"):
            held += 1
        elif split_group(messages_of(row["prompt"])) in away:
            opened += 1
        else:
            rows.append(row)
    rows, opposed = _together(rows) if "chosen" in columns else (rows, 0)
    reasons = {
        "the file holds them out (split)": held,
        "they open as a prompt that is held out": opened,
        "the same pair is there the other way round": opposed,
    }
    return Chosen(rows, {why: count for why, count in reasons.items() if count})


def _together(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Pairs that are there both ways, each as one row of the mean p; and how many rows that takes away."""
    said: dict[str, list[tuple[int, bool, float]]] = {}
    for place, row in enumerate(rows):
        sides = [json.dumps(row[name]) for name in ("chosen", "rejected")]
        key = json.dumps([row["prompt"], *sorted(sides)])
        said.setdefault(key, []).append((place, sides[0] <= sides[1], row["p"]))
    kept: dict[int, Row] = dict(enumerate(rows))
    for votes in said.values():
        if len({first for _, first, _ in votes}) == 1:
            continue
        for place, _, _ in votes[1:]:
            del kept[place]
        place, first, _ = votes[0]
        p = sum(p if side == first else 1 - p for _, side, p in votes) / len(votes)
        if abs(2 * p - 1) < LabelRule().tie_margin:
            del kept[place]
            continue
        row = rows[place]
        chosen, rejected = (row["chosen"], row["rejected"]) if p > 0.5 else (row["rejected"], row["chosen"])
        kept[place] = {**row, "chosen": chosen, "rejected": rejected, "p": max(p, 1 - p)}
    return list(kept.values()), len(rows) - len(kept)


def _rows(path: Path, columns: Sequence[str], names: Mapping[str, str]) -> list[tuple[Row, Split | None]]:
    shapes.check_names(names)
    if mine := {ours: theirs for ours, theirs in names.items() if ours in columns}:  # others may be of another file
        shapes.check_found(mine, (raw.value for raw in files.rows(path, unnamed=True) if not raw.problem), path)
    rows: list[tuple[Row, Split | None]] = []
    first, problems, ties = "", 0, 0
    for raw in files.rows(path, unnamed=True):
        try:
            if raw.problem:
                raise ValueError(raw.problem)
            value = shapes.renamed(raw.value, names)
            found = _read(value, columns)
            split = split_in(value) if isinstance(value, dict) else None
        except ValueError as error:
            first = first or f"{raw.unit} {raw.number}: {error}"
            problems += 1
            continue
        ties += not found
        rows += [({**row, "line": raw.number}, split) for row in found]
    if problems:
        more = f" ({problems - 1} more bad rows)" if problems > 1 else ""
        raise UserError(f"{path}, {first}{more}")
    if ties and not rows:
        raise UserError(_all_ties(path))
    if not rows:
        raise UserError(f"{path}: the data set is empty; it needs rows with {', '.join(columns)}")
    return rows


def check_preferences(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError where there are preference rows and none of them prefers one answer to the other."""
    if rows and all(row.get("p") == 0.5 for row in rows):
        raise UserError(_all_ties(path))


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The JSONL text of rows, without the numbers of their lines."""
    kept = ({key: value for key, value in row.items() if key != "line"} for row in rows)
    return "".join(json.dumps(row) + "\n" for row in kept)


def _all_ties(path: Path) -> str:
    return (
        f"{path}: every row is a tie (p is 0.5), so there is nothing to learn; label the pairs with a judge that "
        "tells them apart"
    )


def _read(row: Any, columns: Sequence[str]) -> list[Row]:
    """The training rows of a row: one, or of a ranking as many as it has pairs that are no ties."""
    if isinstance(row, str) and tuple(columns) == ("prompt",):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise ValueError("a row is one JSON object")
    if _is_ours(row, columns):
        kept = {column: row[column] for column in columns if column in row}
        if "p" in columns and "p" not in row:
            kept["p"] = 1.0  # a person said so
        if problem := _check(kept, columns):
            raise ValueError(problem)
        return [kept]
    if "chosen" in columns:
        pairs = shapes.preferences(row).pairs
        return [
            {"prompt": _turns(pair.prompt), "chosen": _said(pair.first), "rejected": _said(pair.second), "p": pair.p}
            for pair in pairs
        ]
    if "completion" in columns:
        prompt, answer = shapes.completion(row)
        if "label" not in columns:
            return [{"prompt": _turns(prompt), "completion": _said(answer)}]
        if "label" not in row:
            raise ValueError(_lacks(row, ["label"]))
        return [{"prompt": _turns(prompt), "completion": _said(answer), "label": shapes.good(row["label"])}]
    if "answer" in columns:
        prompt, answer = shapes.completion(row)
        return [{"prompt": _turns(prompt), "answer": answer}]
    return [{"prompt": _turns(shapes.prompt(row))}]


def _is_ours(row: Row, columns: Sequence[str]) -> bool:
    """Whether a row has the columns as they are trained on: each a list of messages, answers the assistant's."""
    for column in columns:
        held = row.get(column)
        if column == "answer":
            if not isinstance(held, str):
                return False
        elif column == "label":
            if not isinstance(held, bool):
                return False
        elif column == "p":
            if isinstance(held, str):
                return False
        elif not _are_messages(held) or (column != "prompt" and held[0]["role"] != "assistant"):
            return False
    return not any(name in row for name in ("system", "system_prompt", "score_chosen"))


def _are_messages(held: Any) -> TypeGuard[list[dict[str, str]]]:
    return (
        isinstance(held, list)
        and bool(held)
        and all(
            isinstance(message, dict)
            and message.get("role") in ROLES
            and isinstance(message.get("content"), str)
            and not message.get("tool_calls")
            for message in held
        )
    )


def _check(row: Row, columns: Sequence[str]) -> str:
    """What is wrong with a row that has the columns."""
    if "prompt" in row and row["prompt"][-1]["role"] == "assistant":
        return "prompt: the last message is the assistant's; it must be the one that is answered"
    if "chosen" in row and row["chosen"] == row.get("rejected"):
        return "chosen and rejected are the same answer"
    if "p" in row:
        shapes.probability(row["p"])
    return ""


def _lacks(row: Row, missing: Sequence[str]) -> str:
    return f"the row lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}"


def _turns(prompt: Messages) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in prompt]


def _said(answer: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer}]
