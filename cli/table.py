"""Tables that fit the terminal they are printed to: as they are where there is room, with texts wrapped where there is
a little less, and each row as a paragraph of its own where there is not.

    in all: trusted
      right 90% (80% to 96%)   prompts 60   orders agree 95%
      first 52%   longer 91%   shorter 89%   ECE 0.04

A figure is never broken, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

GAP = 2  # blanks between two columns
NARROWEST = 10  # columns of a text that is wrapped
LONGEST = 24  # columns of a word of a text: a longer one, as a path, may be folded
TALLEST = 8  # lines of a row, above which it is no longer a table to the eye


def widths(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], room: int) -> list[int] | None:
    """How wide each column is in a terminal of `room` columns; None where a table does not fit. Figures, which are the
    columns in `right`, have the width of the longest, texts at least that of their longest word up to
    `LONGEST`."""
    cells = [[row[at] for row in rows] for at in range(len(columns))]
    whole = [max(map(cell_len, (name, *some)), default=0) for name, some in zip(columns, cells, strict=True)]
    least = [
        max(_longest_word(name), *map(cell_len, some), 0)
        if name in right
        else max(min(LONGEST, max(map(_longest_word, (name, *some)))), min(NARROWEST, whole[at]))
        for at, (name, some) in enumerate(zip(columns, cells, strict=True))
    ]
    room -= GAP * (len(columns) - 1)
    if sum(whole) <= room:
        return whole
    if sum(least) > room:
        return None
    wanted = [least[at] if name in right else whole[at] for at, name in enumerate(columns)]
    found = _shared(wanted, least, room)
    tall = max((-(-cell_len(row[at]) // max(1, found[at])) for row in rows for at in range(len(columns))), default=1)
    return found if tall <= TALLEST else None


def _shared(whole: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Each column as wide as its longest cell, those that need little first; what is left over is shared by the long
    ones, none of them below its least."""
    found = list(least)
    by_need = sorted(range(len(whole)), key=lambda at: whole[at])
    for number, at in enumerate(by_need):
        later = by_need[number + 1 :]
        spare = room - sum(found[other] for other in by_need[:number]) - sum(least[other] for other in later)
        fair = (room - sum(found[other] for other in by_need[:number])) // (len(later) + 1)
        found[at] = min(whole[at], max(least[at], min(spare, fair)))
    return found


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def paragraphs(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[str]:
    """Each row as lines of at most `room` columns: what it is called, then its named cells. A cell that is longer than
    a line is wrapped at its words."""
    lines = [columns[0]] if columns[0] else []
    for row in rows:
        named = [(name, cell) for name, cell in zip(columns[1:], row[1:], strict=True) if name.strip()]
        plain = [cell for name, cell in zip(columns[1:], row[1:], strict=True) if not name.strip() and cell]
        lines += wrapped(": ".join(cell for cell in (row[0], *plain) if cell), room, 4)
        line = ""
        for item in (f"{name} {' '.join(cell.split())}" for name, cell in named if cell.strip()):
            if line and cell_len(line) + 3 + cell_len(item) <= room:
                line += f"   {item}"
                continue
            lines += [line] if line else []
            *full, line = wrapped(f"  {item}", room, 4)
            lines += full
        lines += [line] if line else []
    return lines


def wrapped(text: str, room: int, hanging: int = 0) -> list[str]:
    """A line of prose as lines of at most `room` columns, broken at blanks; `hanging`: how far the further ones are
    indented. A command is not broken, nor is a word that is longer than a line."""
    if cell_len(text) <= room:
        return [text]
    lines: list[str] = []
    start = text[: len(text) - len(text.lstrip())]
    line, indent = "", start
    for word in _words(text.strip()):
        if line and cell_len(indent) + cell_len(line) + 1 + cell_len(word) > room:
            lines.append(indent + line)
            line, indent = word, " " * min(hanging, room // 2)
        else:
            line = f"{line} {word}" if line else word
    return [*lines, indent + line]


def _words(text: str) -> list[str]:
    """At its blanks, but for those in a command, which people copy: between backticks, or from a colon to a comma."""
    words: list[str] = []
    command = False
    for word in text.split(" "):
        command = command or (word == "precept" and bool(words) and words[-1].endswith(":"))
        if words and (words[-1].count("`") % 2 or (command and word != "precept")):
            words[-1] += f" {word}"
        else:
            words.append(word)
        command = command and not word.endswith((",", ";"))
    return words
