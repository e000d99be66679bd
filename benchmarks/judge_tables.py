"""The tables of `benchmarks.judges`, from what was answered. Asks nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def report(cells: Mapping[str, Any], sets: Mapping[str, Sequence[Any]], sandbox: Sequence[Any]) -> str:
    return "\n".join(f"{cell} {len(of['rows'])} {of['cpu']:.0f}" for cell, of in cells.items())
