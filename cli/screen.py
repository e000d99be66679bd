"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from cli.process import unwritten
from cli.text import visible
from pipeline.metrics import words
from pipeline.metrics.words import percent as percent

if TYPE_CHECKING:
    from fractions import Fraction

    from rich.console import Console
    from rich.table import Table

SIDE = 12  # characters of a bar to a side of the middle


def put(text: str = "") -> None:
    """A line of the result. What a terminal would obey in it is shown instead."""
    typer.echo(visible(text))


def tell(text: str) -> None:
    """A line that is not the result: progress, what to do next."""
    if sys.stdout is not None:
        sys.stdout.flush()
    print(visible(text), file=sys.stderr, flush=True)


def put_json(value: Any) -> None:
    """ASCII, so that nothing in it reaches the terminal as a control character."""
    typer.echo(json.dumps(value, indent=2, default=str))


def put_bytes(data: bytes) -> None:
    """A file as it is."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        raise unwritten(error) from None


def put_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Rows under plain headings; the columns in `right` are aligned to the right."""
    from rich.table import Table

    from cli.text import literal

    table: Table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in right)
    for row in rows:
        table.add_row(*(literal(cell) for cell in row))
    width = None if sys.stdout.isatty() else 200  # what reads a pipe wants lines, not a layout
    console(width).print(table)


def console(width: int | None = None) -> Console:
    """Where rich prints, taking nothing in a text for markup."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=width)


def bar(moved: Fraction, widest: Fraction | int) -> str:
    """A bar to the right of the middle for what moves up, to the left for what moves down; the widest fills a side."""
    length = round(SIDE * abs(moved) / widest) if widest else 0
    left, right = ("", "█" * length) if moved > 0 else ("█" * length, "")
    return f"{left:>{SIDE}}|{right:<{SIDE}}"


def number(value: float | None, digits: int = 3) -> str:
    return words.number(value, digits, beside=None)


def took(seconds: float) -> str:
    """A duration as people read it: 12.3 s, 4m 05s, 2h 10m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s" if minutes else f"{seconds:.1f} s"
