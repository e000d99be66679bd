"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

from cli.process import unwritten
from cli.text import visible
from pipeline.metrics import words
from pipeline.metrics.words import percent as percent

if TYPE_CHECKING:
    from fractions import Fraction

    from rich.console import Console
    from rich.table import Table

PIPED = 200  # columns of a table that no terminal shows
SIDE = 12  # characters of a bar to a side of the middle


def put(text: str = "") -> None:
    """A line of the result. What a terminal would obey in it is shown instead."""
    typer.echo(visible(text))


def tell(text: str) -> None:
    """A line that is not the result: progress, what to do next."""
    if sys.stdout is not None:
        sys.stdout.flush()
    print(told(text), file=sys.stderr, flush=True)


def told(text: str) -> str:
    """A text as standard error shows it: on a terminal its lines are wrapped at their words."""
    text = visible(text)
    if sys.stderr is None or not sys.stderr.isatty():
        return text
    return "\n".join(_fitted(text, console().width))


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
    """Rows under plain headings; the columns in `right` are aligned to the right. On a terminal it is as wide as that,
    and rows that do not fit are paragraphs (`cli.table`)."""
    from cli import table
    from cli.text import literal

    shown = [[visible(cell) for cell in row] for row in rows]
    if not _terminal():
        console(PIPED).print(_grid(columns, shown, right, None))  # what reads a pipe wants lines, not a layout
        return
    room = console().width
    widths = table.widths(columns, shown, right, room)
    if widths is None:
        for line in table.paragraphs(columns, shown, room):
            console(room).print(literal(line), soft_wrap=True)
    else:
        console(room).print(_grid(columns, shown, right, widths))


def _grid(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], widths: Sequence[int] | None
) -> Table:
    from rich.table import Table

    from cli.text import literal

    table: Table = Table(box=None, pad_edge=False, header_style="dim")
    for at, name in enumerate(columns):
        justify: Literal["left", "right"] = "right" if name in right else "left"
        width = widths[at] if widths else None
        table.add_column(name, justify=justify, overflow="fold", width=width, no_wrap=widths is None and name in right)
    for row in rows:
        table.add_row(*(literal(cell) for cell in row))
    return table


def put_prose(text: str) -> None:
    """A line of the result that is a sentence: on a terminal it is wrapped at its words, under where it began after its
    label (`trial        the judge is ...`)."""

    text = visible(text)
    for line in _fitted(text, console().width) if _terminal() else [text]:
        typer.echo(line)


def _fitted(text: str, room: int) -> Iterator[str]:
    from cli import table

    for line in text.split("\n"):
        label = re.match(r"\s*(?:\S+(?: \S+)* {2,})?", line)
        yield from table.wrapped(line, room, len(label[0]) if label else 0)


def _terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


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
