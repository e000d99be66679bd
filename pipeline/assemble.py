"""Labels in, training rows out, in TRL's own columns (conversational `prompt`, `chosen`, `rejected`, `completion`).

A preference row carries `p`, the probability that `chosen` is the better: trainers use it as a soft target. Tied and
unreadable comparisons never become a row. Rows of a held-out prompt never become a training row, and that is checked
here, at the last door.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from constitution.records import PROBABILITY, Id, Label, Messages, Prompt, canonical
from pipeline.judges.judge import Case

Row = dict[str, Any]


def messages(turns: Messages) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in turns]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def preferences(labels: Iterable[Label], cases: Mapping[Id, Case], splits: Mapping[Id, str], split: str) -> list[Row]:
    """A row for each decided label whose prompt is in `split`, in the order of the comparisons' ids."""
    rows = []
    for label in sorted(labels, key=lambda x: x.comparison):
        first_better = label.preferred_first
        case = cases[label.comparison]
        if first_better is None or splits[case.comparison.prompt] != split:
            continue
        chosen, rejected = (case.first, case.second) if first_better else (case.second, case.first)
        rows.append(
            {
                "prompt": messages(case.messages),
                "chosen": said(chosen),
                "rejected": said(rejected),
                "p": (label.p if first_better else PROBABILITY - label.p) / PROBABILITY,
                "comparison": label.comparison.hex(),
            }
        )
    return rows


def completions(answers: Sequence[tuple[Prompt, str]]) -> list[Row]:
    """SFT rows of (prompt, answer). Raises ValueError on a prompt that is not in the training split."""
    for prompt, _ in answers:
        if prompt.split != "train":
            raise ValueError(f"a {prompt.split} prompt may not reach a training file")
    return [{"prompt": messages(p.messages), "completion": said(text)} for p, text in answers]


def dataset_digest(rows: Sequence[Row]) -> str:
    """Digest of a data set's rows, in order."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(canonical(row).encode() + b"\n")
    return sha.hexdigest()


def write(rows: Sequence[Row]) -> str:
    """The JSONL text of a data set."""
    return "".join(canonical(row) + "\n" for row in rows)
