"""A data set as files: rows in TRL's own columns, JSONL, Parquet or CSV, and a card that says how they came about.

Each file is written whole or not at all. Which rows they are is `exports.py`'s.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from constitution.errors import UserError

Row = dict[str, Any]
CARD = "README.md"
SUFFIXES = (".jsonl", ".parquet", ".csv")
MARK = "<!-- written by precept data export -->"
OURS = "<!-- written by precept "  # so do the cards of earlier versions begin


class Format(StrEnum):
    preference = "preference"
    prompt_only = "prompt-only"
    unpaired = "unpaired"
    prompt_completion = "prompt-completion"


class Split(StrEnum):
    train = "train"
    dev = "dev"
    heldout = "heldout"
    all = "all"


COLUMNS = {
    Format.preference: {
        "prompt": "the dialogue, a list of messages that ends in a user's turn",
        "chosen": "the better answer, one message of the assistant's",
        "rejected": "the other answer",
        "p": "how sure the label is: the probability that `chosen` is the better, 1.0 where a person said so",
        "comparison": "the pair's id in the store",
    },
    Format.prompt_only: {"prompt": "the dialogue, a list of messages that ends in a user's turn"},
    Format.unpaired: {
        "prompt": "the dialogue, a list of messages that ends in a user's turn",
        "completion": "one message of the assistant's",
        "label": "whether it was the better one of its pairs",
    },
    Format.prompt_completion: {
        "prompt": "the dialogue, a list of messages that ends in a user's turn",
        "completion": "what a person would have answered, one message of the assistant's",
        "written_by": "always `person`: no model wrote it",
        "comparison": "the id in the store of the pair that they were shown",
    },
}


@dataclass(frozen=True)
class DataSet:
    """Rows, what was left out and why, and where they come from."""

    rows: list[Row]
    left_out: dict[str, int] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """The file, its card, how many rows it has, and how many were left out, by reason."""

    file: Path
    card: Path
    rows: int
    left_out: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {"file": str(self.file), "card": str(self.card), "rows": self.rows, "left_out": dict(self.left_out)}


def check_name(out: Path) -> None:
    """Raises UserError for a file whose format no name says."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: give a {', a '.join(SUFFIXES[:-1])} or a {SUFFIXES[-1]} file")


def write(out: Path, format: Format, found: DataSet) -> Exported:
    """Write the rows and their card, each in one step.

    Parquet holds UTF-8 alone, so rows with a lone surrogate are left out there, and counted; JSONL and CSV, which has
    such a text as JSON, hold everything.
    """
    from storage.artifacts import write_bytes, write_text

    if out.suffix == ".parquet":
        rows = [row for row in found.rows if _is_utf8(row)]
        lost = {"not in UTF-8 (a .jsonl file keeps them)": len(found.rows) - len(rows)}
        found = replace(found, rows=rows, left_out=found.left_out | lost)
        write_bytes(out, _parquet(rows))
    elif out.suffix == ".csv":
        write_bytes(out, _csv(COLUMNS[format], found.rows))
    else:
        write_bytes(out, "".join(json.dumps(row) + "\n" for row in found.rows).encode("ascii"))
    path = out.parent / CARD
    if path.exists() and not _about(path, out):  # somebody else's README, or another data set's: it stays
        path = out.with_name(f"{out.stem}.{CARD}")
    write_text(path, card(out, format, found))
    return Exported(out, path, len(found.rows), found.left_out)


def _about(path: Path, out: Path) -> bool:
    """Whether a card is one that an earlier export of the same file wrote."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return OURS in text and any(
        f"data_files: {json.dumps(name)}\n" in text for name in (_pattern(out), out.name)
    )  # fmt: skip


def _pattern(out: Path) -> str:
    """The name as `datasets` takes it, which reads names of data files as patterns: `pairs[1].jsonl` is another."""
    return glob.escape(out.name)


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


def _csv(columns: Mapping[str, str], rows: Sequence[Row]) -> bytes:
    """Cells are texts where a text says all of it and comes back as it was, and JSON where it does not; none is a
    spreadsheet's formula."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_cell(row[name], name) for name in columns] for row in rows)
    return file.getvalue().encode("utf-8")


def _cell(value: Any, name: str) -> str:
    from pipeline.sources import files, shapes

    if not isinstance(value, list):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = value[0]["content"]
    safe, plain = files.guarded(text), len(value) == 1 and "\x00" not in text
    try:
        text.encode("utf-8")
        if name == "prompt":
            read = [{"role": m.role, "content": m.content} for m in shapes.messages(files.cell(safe), name)]
            plain = plain and read == value
        else:
            plain = plain and shapes.answer(files.cell(safe), name) == (None, text)
    except ValueError:  # nothing but space, or a lone surrogate
        plain = False
    return safe if plain else json.dumps(value)


def _is_utf8(row: Row) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def card(out: Path, format: Format, found: DataSet) -> str:
    """The data set card: YAML that `datasets` reads, then words."""
    columns = "".join(f"| `{name}` | {text} |\n" for name, text in COLUMNS[format].items())
    source = "".join(f"- {name}: `{value}`\n" for name, value in found.source.items())
    left_out = "".join(f"- {count} {why}\n" for why, count in found.left_out.items()) or "- nothing\n"
    return f"""---
configs:
- config_name: default
  data_files: {json.dumps(_pattern(out))}
tags: [trl, {format.value}]
---
{MARK}

# {out.stem}

{len(found.rows)} rows in TRL's {format.value} format, conversational.

| column | |
|---|---|
{columns}
## Where it comes from

{source}
## What was left out

{left_out}
Ties, and pairs that the judge's answers could not be read on, are no preference: no label was guessed.
"""
