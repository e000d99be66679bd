"""Who is told how far a run is: an argument of whatever works, never a module's. The command line has one for
terminals (`cli/progress.py`), flows one for Prefect's log (`flows/telling.py`); here is the contract, and one that
says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


class Stage(Protocol):
    """One stage's progress."""

    total: int

    @property
    def done(self) -> int: ...

    def advance(self, n: int = 1, note: str = "") -> None:
        """Called after each batch, with how many it was; `note` replaces the text at the end."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Say how far a stage is whose total was not known when it began."""


@runtime_checkable
class Progress(Protocol):
    def say(self, text: str) -> None:
        """A sentence to whoever watches."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Stage]: ...


class Uncounted:
    """A stage that nobody watches."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n

    def reach(self, done: int, total: int, note: str = "") -> None:
        self.done, self.total = done, total


class Silent:
    """Says nothing to anybody."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        yield Uncounted(total)
