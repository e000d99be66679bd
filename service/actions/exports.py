"""What a run labelled, as a data set in TRL's own columns with a card that says how it came about.

Each file is written whole or not at all. Ties and unreadable pairs stay in the store; the card counts them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError

if TYPE_CHECKING:
    from constitution.records import Id
    from storage.runs import Run
    from storage.store import Store

Row = dict[str, Any]
CARD = "README.md"
MARK = "<!-- written by precept data export -->"
OURS = "<!-- written by precept "  # so do the cards of earlier versions begin


class Format(StrEnum):
    preference = "preference"
    prompt_only = "prompt-only"
    unpaired = "unpaired"


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


def export(store: Store, out: Path, run: str, format: Format, split: Split) -> Exported:
    """Write the data set of a run (or of the newest that labelled anything), whole or not at all.

    Raises UserError for a file that is neither .jsonl nor .parquet, and where there is nothing to export.
    """
    check_name(out)
    found = collect(store, run, format, split)
    if not found.rows:
        left = ", ".join(f"{count} {why}" for why, count in found.left_out.items() if count)
        raise UserError(f"there is nothing to export in the split {split}" + (f" (left out: {left})" if left else ""))
    return write(out, format, found)


def check_name(out: Path) -> None:
    """Raises UserError for a file whose format no name says."""
    if out.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"{out}: give a .jsonl or a .parquet file")


# --- rows --------------------------------------------------------------------------------------------------------


def collect(store: Store, run: str, format: Format, split: Split) -> DataSet:
    """The rows of a run's data set in one format, in the order of the pairs' (or the prompts') ids."""
    if format is Format.prompt_only:
        from pipeline.assemble import messages
        from service.queries.pool import NO_LABELS

        about = store.run(run) if run else next((r for r in store.runs() if r.kind not in NO_LABELS), None)
        if about is None:
            raise UserError("there is no run yet whose prompts could be exported; `precept improve` makes one")
        prompts = store.prompts(ids=store.stage_members(about.id, "prompts"))
        rows = [{"prompt": messages(p.messages)} for p in prompts if split in (Split.all, p.split)]
        return DataSet(rows, source=_source(about, split))
    pairs = _pairs(store, run, split)
    return pairs if format is Format.preference else _unpaired(pairs)


def _pairs(store: Store, run: str, split: Split) -> DataSet:
    from service.actions import imports

    about = imports.find(store, run)
    if about is not None:
        return _imported(store, about, split)
    return _labelled(store, run, split)


def _labelled(store: Store, run: str, split: Split) -> DataSet:
    """Decided labels as preference rows."""
    from service.queries import judged

    about = judged.newest(store, run)
    cases, splits = _texts(store, about.comparisons)
    here = [about.labels[c] for c in about.comparisons if split in (Split.all, splits[c])]
    rows = [
        _row(cases[x.comparison], first=x.preferred_first, p=max(x.p, 10**9 - x.p) / 10**9)
        for x in sorted(here, key=lambda x: x.comparison)
        if x.preferred_first is not None
    ]
    unreadable = sum(x.state == "unreadable" for x in here)
    left_out = {"tied": len(here) - len(rows) - unreadable, "unreadable": unreadable}
    source = _source(about.run, split) | {
        "judge": next(iter(store.questions(list(about.weights)))).judge,
        "label rule": json.dumps(about.run.settings["settings"]["label"], sort_keys=True),
    }
    return DataSet(rows, left_out, source)


def _imported(store: Store, about: Run, split: Split) -> DataSet:
    """What people preferred, as it was imported: p is 1."""
    from service.actions import imports

    labels = imports.preferences(store, about)
    cases, splits = _texts(store, [c for c, _ in labels])
    rows = [_row(cases[c], first, p=1.0) for c, first in sorted(labels) if split in (Split.all, splits[c])]
    return DataSet(rows, source=_source(about, split) | {"labels": f"people's, imported from {about.result['file']}"})


def _unpaired(pairs: DataSet) -> DataSet:
    """Each answer once. One that won a pair and lost another has no label of its own, and is left out."""
    said: dict[str, tuple[Row, set[bool]]] = {}
    for row in pairs.rows:
        for name, label in (("chosen", True), ("rejected", False)):
            single = {"prompt": row["prompt"], "completion": row[name]}
            said.setdefault(json.dumps(single), (single, set()))[1].add(label)
    rows = [{**single, "label": labels == {True}} for single, labels in said.values() if len(labels) == 1]
    left_out = pairs.left_out | {"answers that won and lost": len(said) - len(rows)}
    return DataSet(rows, left_out, pairs.source)


def _texts(store: Store, comparisons: Sequence[Id]) -> tuple[dict[Id, Any], dict[Id, str]]:
    """Pairs with their texts, and the splits of their prompts, by comparison."""
    cases = {p.comparison.id: p for p in store.pairs(list(comparisons))}
    of = {p.id: p.split for p in store.prompts(ids=list({p.comparison.prompt for p in cases.values()}))}
    return cases, {c: of[pair.comparison.prompt] for c, pair in cases.items()}


def _row(pair: Any, first: bool, p: float) -> Row:
    from pipeline.assemble import messages, said

    chosen, rejected = (pair.first, pair.second) if first else (pair.second, pair.first)
    return {
        "prompt": messages(pair.messages), "chosen": said(chosen), "rejected": said(rejected), "p": p,
        "comparison": pair.comparison.id.hex(),
    }  # fmt: skip


def _source(run: Run, split: Split) -> dict[str, str]:
    return {"run": run.id.hex(), "constitution": run.constitution or "-", "split": split.value}


# --- files -------------------------------------------------------------------------------------------------------


def write(out: Path, format: Format, found: DataSet) -> Exported:
    """Write the rows and their card, each in one step.

    Parquet holds UTF-8 alone, so rows with a lone surrogate are left out there, and counted; JSONL holds everything.
    """
    from storage.artifacts import write_bytes, write_text

    if out.suffix == ".parquet":
        rows = [row for row in found.rows if _is_utf8(row)]
        lost = {"not in UTF-8 (a .jsonl file keeps them)": len(found.rows) - len(rows)}
        found = replace(found, rows=rows, left_out=found.left_out | lost)
        write_bytes(out, _parquet(rows))
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
    return OURS in text and f"data_files: {json.dumps(out.name)}\n" in text


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


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
  data_files: {json.dumps(out.name)}
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
