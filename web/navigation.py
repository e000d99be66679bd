"""Where a page stands in the navigation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Nav:
    """`key`: the letter that goes there after `g`."""

    title: str
    path: str
    order: int = 50
    key: str = ""
