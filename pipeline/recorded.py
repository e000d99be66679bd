"""Somebody else's verdicts on pairs whose better answer is known, from a file: a judge is tried without being asked.

A row is a known pair (`known_pairs.py`: its shapes, whatever they are), and beside it what a judge said:

- `shown_a`, `shown_b`: the probability (0 to 1) that it gave the better answer, shown as the first and as the second;
  one of them is enough;
- or `p`: the same where nobody knows which was shown first;
- or `choice_a`, `choice_b`: what it named, `better`, `worse` or `tie`, with the better one shown first and second;
- or `choice`: the same where nobody knows which was shown first;
- and `mass`, where it is known: the least probability that its options held.

In rows that have both answers in an order of their own (`a` and `b`, `output_1` and `output_2`, `response1` and
`response2`, `response_a` and `response_b`), `p` is the probability of the first as it is written, and `choice` may say
`a` (the first), `b` or `tie`, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline import known
from pipeline.known import Known
from pipeline.metrics.trial import Tried
from pipeline.sources import files, known_pairs

CHOICES = {"better": 1.0, "worse": 0.0, "tie": 0.5}
COLUMNS = ("shown_a", "shown_b", "p", "choice", "choice_a", "choice_b", "mass")


def read(path: Path | str, format: str = "") -> tuple[list[Known], list[Tried]]:
    """The pairs of a file, and what was said of each. Raises UserError for rows without a verdict, or with one that is
    none, by line."""
    path = Path(path)
    pairs, rows = [], []
    for row in files.rows(path):
        where = row.where(path)
        if row.problem or not isinstance(row.value, Mapping):
            raise UserError(f"{where}: {row.problem or 'a row is an object'}")
        value = dict(row.value)
        verdict = {name: value.pop(name) for name in COLUMNS if value.get(name) is not None}
        try:
            pair = known_pairs.of_row(value, format, path)
        except ValueError as error:
            raise UserError(f"{where}: {error}; a recorded verdict stands beside one known pair") from None
        one = Known(pair.messages, pair.better, pair.worse, pair.principle, pair.tags, pair.source)
        pairs.append(one)
        first = known_pairs.better_is_first(value, format, pair)
        rows.append(_tried(one, verdict, first, where))
    if not rows:
        raise UserError(f"{path} has no recorded verdict")
    return pairs, rows


def _tried(pair: Known, verdict: Mapping[str, Any], first: bool | None, where: str) -> Tried:
    """`first`: whether the better answer is the first as the row has them; None where it has no order of its own."""
    if "shown_a" in verdict or "shown_b" in verdict:
        shown = [_probability(verdict.get(name), where) for name in ("shown_a", "shown_b")]
        ordered = True
    elif "choice_a" in verdict or "choice_b" in verdict:
        shown = [_named(verdict.get(name), where) for name in ("choice_a", "choice_b")]
        ordered = True
    elif "p" in verdict or "choice" in verdict:
        if "p" in verdict:
            p = _probability(verdict["p"], where)
            p = 1 - p if first is False and p is not None else p
        else:
            p = _named(verdict["choice"], where, first)
        shown = [p, None]
        ordered = False
    else:
        raise UserError(
            f"{where}: there is no verdict: a row has one of shown_a and shown_b, p, choice_a and choice_b, choice; "
            "docs/trial.md says what each is"
        )
    mass = _probability(verdict.get("mass"), where)
    found = known.row(pair, shown[0], shown[1], 1.0 if mass is None else mass)
    return found if ordered else replace(found, ordered=False)


def _probability(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{where}: {json.dumps(value, default=str)[:40]} is no probability from 0 to 1")
    return float(value)


def _named(value: Any, where: str, first: bool | None = None) -> float | None:
    if value is None:
        return None
    known_words = CHOICES if first is None else {**CHOICES, "a": float(first), "b": float(not first)}
    word = str(value).strip().lower()
    if word not in known_words:
        raise UserError(f"{where}: {word[:40]!r} is none of {', '.join(known_words)}")
    return known_words[word]
