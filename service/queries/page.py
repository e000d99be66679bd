"""A page of a long list: some records, and where the next page begins. No list of the store is read whole to show it.

What is shown of a record holds ids as hex digits, so that the command line, a web page and JSON show one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar


class Shown(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Shown, covariant=True)


@dataclass(frozen=True)
class Page(Generic[T]):
    """`after`: hand it in to get the next page; None on the last one. Where a filter lets few records through, a page
    may be short, or empty, and still not be the last: looking for more is left to whoever reads it."""

    items: tuple[T, ...]
    after: str | None

    def as_dict(self) -> dict[str, Any]:
        return {"items": [item.as_dict() for item in self.items], "after": self.after}
