"""What is wrong with a constitution file, said once and whole: place, mistake, and what to write instead."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace

from constitution.errors import UserError
from constitution.visible import visible

SHOWN = 40  # problems printed; the rest are counted
_WIDTH = 100  # characters of a line shown around the place
LINE_BREAK = re.compile(r"\r\n|[\r\n]")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake. `line` and `column` count from 1, in characters; both are 0 when the file itself is at fault.
    `path` names the value, as in `principles[2].critique`."""

    line: int
    column: int
    path: str
    message: str
    hint: str = ""


class ConstitutionError(UserError):
    """Every mistake found in one file, in the order of the file. Its text is safe to print to a terminal."""

    def __init__(self, filename: str, problems: Iterable[Problem], source: str = "") -> None:
        self.filename = filename
        self.problems = tuple(sorted(set(problems)))
        super().__init__(_render(filename, self.problems, LINE_BREAK.split(source)))


def noticed(filename: str, notices: Iterable[Problem], source: str) -> str:
    """What is no mistake, in the same form. Its text is safe to print to a terminal."""
    lines = LINE_BREAK.split(source)
    said = [replace(each, message=f"notice: {each.message}") for each in notices]
    return "\n\n".join(_block(visible(filename), each, lines) for each in said)


def _render(filename: str, problems: tuple[Problem, ...], lines: list[str]) -> str:
    name = visible(filename)
    blocks = [_block(name, problem, lines) for problem in problems[:SHOWN]]
    if len(problems) == 1:
        return blocks[0]
    head = f"{name}: {len(problems)} mistakes"
    rest = [f"... and {len(problems) - SHOWN} more."] if len(problems) > SHOWN else []
    return "\n\n".join([head, *blocks, *rest])


def _block(name: str, problem: Problem, lines: list[str]) -> str:
    if not problem.line:
        return "\n".join([f"{name}: {visible(problem.message)}", *_indented(problem.hint)])
    rows = [f"{name}:{problem.line}:{problem.column}: {visible(problem.message)}"]
    if problem.line <= len(lines) and lines[problem.line - 1].strip():
        rows += _excerpt(lines[problem.line - 1], problem.line, problem.column)
    return "\n".join([*rows, *_indented(problem.hint)])


def _indented(hint: str) -> list[str]:
    return [f"  {line}" for line in visible(hint).splitlines()]


def _excerpt(line: str, number: int, column: int) -> list[str]:
    start = max(0, column - 1 - _WIDTH // 2)
    before, after = (
        visible(part).replace("\t", " ") for part in (line[start : column - 1], line[column - 1 :][:_WIDTH])
    )
    margin = f"  {number} | "
    return [margin + before + after, " " * (len(margin) - 2) + "| " + " " * _cells(before) + "^"]


def _cells(text: str) -> int:
    """Terminal cells of a text, so that the caret stands under its character in any script."""
    wide = {"W": 2, "F": 2}
    return sum(0 if unicodedata.combining(c) else wide.get(unicodedata.east_asian_width(c), 1) for c in text)
