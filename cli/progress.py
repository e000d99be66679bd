"""Progress on standard error: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.screen import took

LINE_EVERY = 10.0  # seconds between lines where there is no terminal


class Stage:
    """One stage's progress. `advance(n)` after each batch; `note` replaces the text at the end."""

    def __init__(self, name: str, total: int, out: TextIO, bar: Progress | None) -> None:
        self.name, self.total, self.done = name, total, 0
        self._out, self._bar = out, bar
        self._task = bar.add_task(name, total=total, note="") if bar else None
        self._started = self._said = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=n, note=note)
        elif self.done < self.total and time.monotonic() - self._said > LINE_EVERY:  # the last line is `close`'s
            self._said = time.monotonic()
            print(f"  {self._line()} {note}".rstrip(), file=self._out, flush=True)

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Say how far a stage is whose total was not known when it began."""
        self.total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)
        self.advance(done - self.done, note)

    def close(self) -> None:
        if self._bar is None and self.total:
            print(f"  {self._line()}", file=self._out, flush=True)

    def _line(self) -> str:
        spent = time.monotonic() - self._started
        return f"{self.name}: {self.done}/{self.total} in {took(spent)}{_pace(self.done, self.total, spent)}"


def _pace(done: int, total: int, spent: float) -> str:
    """How fast it goes and how long it will take, once there is something to tell it by."""
    if not done or spent <= 0:
        return ""
    each = spent / done
    pace = f"{took(each)} each" if each >= 1 else f"{1 / each:.1f}/s" if each > 0.1 else f"{1 / each:.0f}/s"
    left = f", {took((total - done) * each)} left" if done < total else ""
    return f" ({pace}{left})"


class Reporter:
    """Where a run says how far it is. `quiet` says nothing at all."""

    def __init__(self, quiet: bool = False, out: TextIO | None = None) -> None:
        self.out = out or sys.stderr
        self.quiet = quiet
        self._console = Console(file=self.out, stderr=True)

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=self.out, flush=True)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        if self.quiet or total == 0:
            yield Stage(name, 0, StringIO() if self.quiet else self.out, None)  # a slow stage would tell lines
            return
        if not self._console.is_terminal:
            stage = Stage(name, total, self.out, None)
            try:
                yield stage
            finally:
                stage.close()
            return
        with Progress(
            TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=self._console,
        ) as bar:  # fmt: skip
            yield Stage(name, total, self.out, bar)
