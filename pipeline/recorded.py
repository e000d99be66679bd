"""Somebody else's verdicts on pairs whose better answer is known, from a file: a judge is tried without being asked.

A row is a known pair (`known_pairs.py`: its shapes, whatever they are), and beside it what a judge said:

- `shown_a`, `shown_b`: the probability (0 to 1) that it gave the better answer, shown as the first and as the second;
  one of them is enough;
- or `p`: the same where nobody knows which was shown first;
- or `choice_a`, `choice_b`: what it named, `better`, `worse` or `tie`, with the better one shown first and second;
- or `choice`: the same where nobody knows which was shown first;
- and `mass`, where it is known: the least probability that its options held. A row of less than one half is
  unreadable, as a judge's that is asked.

In rows that have both answers in an order of their own (`a` and `b`, `output_1` and `output_2`, `response1` and
`response2`, `response_a` and `response_b`), `p` is the probability of the first as it is written, and `choice` may say
`a` (the first), `b` or `tie`, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Id
from pipeline import known
from pipeline.known import Known
from pipeline.metrics.trial import Tried
from pipeline.sources import files, known_pairs, shapes

CHOICES = {"better": 1.0, "worse": 0.0, "tie": 0.5}
COLUMNS = ("shown_a", "shown_b", "p", "choice", "choice_a", "choice_b", "mass")


@dataclass(frozen=True)
class Recorded:
    """The pairs of a file with what was said of each. `problems`: rows that cannot be used, by place, with why;
    `opposed`: how many pairs are left out because they are given both ways round, so that nobody knows the better."""

    pairs: list[Known]
    rows: list[Tried]
    problems: list[str]
    opposed: int = 0


def read(path: Path | str, format: str = "", *, skip_bad: bool = False) -> Recorded:
    """The recorded verdicts of a file. Raises UserError that lists the rows without a verdict, or with one that is
    none, by line, unless they are to be left out, and where there is no other row."""
    path = Path(path)
    found = Recorded([], [], [])
    for row in files.rows(path):
        try:
            pair, tried = _of_row(row, format, path)
        except ValueError as error:
            found.problems.append(f"{row.where(path)}: {error}")
        else:
            found.pairs.append(pair)
            found.rows.append(tried)
    if not skip_bad:
        known_pairs.refuse(
            found.problems,
            "; a recorded verdict stands beside one known pair: prompt, better, worse, or another shape of docs/data.md"
            " (its own columns: docs/trial.md)",
        )
    found = _one_way(found)
    if not found.rows:
        left_out = f": {len(found.problems)} bad rows are left out" if found.problems else ""
        left_out += f": {found.opposed} pairs are given both ways round" if found.opposed else ""
        raise UserError(f"{path} has no recorded verdict{left_out}; docs/trial.md has the columns")
    return found


def _one_way(found: Recorded) -> Recorded:
    """Without the pairs whose better answer is the worse one in another row."""
    better: dict[tuple[str, Id], set[str]] = {}
    for pair in found.pairs:
        better.setdefault((pair.principle, pair.comparison.id), set()).add(pair.better)
    kept = [at for at, pair in enumerate(found.pairs) if len(better[pair.principle, pair.comparison.id]) == 1]
    pairs, rows = [found.pairs[at] for at in kept], [found.rows[at] for at in kept]
    return Recorded(pairs, rows, found.problems, sum(len(said) > 1 for said in better.values()))


def _of_row(row: files.Row, format: str, path: Path) -> tuple[Known, Tried]:
    """Raises ValueError for a row that cannot be used."""
    if row.problem or not isinstance(row.value, Mapping):
        raise ValueError(row.problem or "a row is an object")
    value = dict(row.value)
    verdict = {name: value.pop(name) for name in COLUMNS if value.get(name) is not None}
    pair = known_pairs.of_row(value, format, path)
    one = Known(pair.messages, pair.better, pair.worse, pair.principle, pair.tags, pair.source)
    return one, _tried(one, verdict, known_pairs.better_is_first(value, format, pair))


def _tried(pair: Known, verdict: Mapping[str, Any], first: bool | None) -> Tried:
    """`first`: whether the better answer is the first as the row has them; None where it has no order of its own."""
    if "shown_a" in verdict or "shown_b" in verdict:
        shown = [_probability(verdict, name) for name in ("shown_a", "shown_b")]
        ordered = True
    elif "choice_a" in verdict or "choice_b" in verdict:
        shown = [_named(verdict, name) for name in ("choice_a", "choice_b")]
        ordered = True
    elif "p" in verdict or "choice" in verdict:
        if "p" in verdict:
            p = _probability(verdict, "p")
            p = 1 - p if first is False and p is not None else p
        else:
            p = _named(verdict, "choice", first)
        shown = [p, None]
        ordered = False
    else:
        raise ValueError("there is no verdict: a row has one of shown_a and shown_b, p, choice_a and choice_b, choice")
    mass = _probability(verdict, "mass")
    found = known.row(pair, shown[0], shown[1], 1.0 if mass is None else mass)
    return replace(found, ordered=ordered, named=True)


def _probability(verdict: Mapping[str, Any], column: str) -> float | None:
    """A probability of a column, also as a cell of CSV has it; None where the row has not that column."""
    value = verdict.get(column)
    if value is None or value == "":
        return None
    try:
        known = shapes.number(value, repr(column))
    except ValueError:
        known = -1.0
    if not 0 <= known <= 1:
        raise ValueError(f"{column!r} is {json.dumps(value, default=str)[:40]}, no probability from 0 to 1")
    return known


def _named(verdict: Mapping[str, Any], column: str, first: bool | None = None) -> float | None:
    value = verdict.get(column)
    if value is None or value == "":
        return None
    known_words = CHOICES if first is None else {**CHOICES, "a": float(first), "b": float(not first)}
    word = str(value).strip().lower()
    if word not in known_words:
        raise ValueError(f"{column!r} is {word[:40]!r}, none of {', '.join(known_words)}")
    return known_words[word]
