"""Texts as lines: which lines of two texts are the same ones, and what one text changed of another.

Line breaks are not compared: a file saved on another system is no other file. difflib's `autojunk` is off, because it
would overlook every line that is common in a long file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from constitution.problems import LINE_BREAK


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines `start` to `end` of the old text, which the new one says as `lines`."""

    start: int
    end: int
    lines: tuple[str, ...]


def split(text: str) -> list[str]:
    """The lines without their breaks. What follows the last line break is a line only if it is not empty."""
    lines = LINE_BREAK.split(text)
    return lines if lines[-1] else lines[:-1]


def join(lines: Iterable[str], like: str) -> str:
    """One text of lines, with line breaks, also at the end, as in a text like it."""
    line_break = "\r\n" if "\r\n" in like else "\n"
    return line_break.join([*lines, *([""] if like.endswith(("\n", "\r")) else [])])


def matches(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of lines that both have: (start in old, start in new, length), rising. The last one, which may be empty,
    ends both."""
    found = [list(block) for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()]
    for before, after in pairwise(found):
        for lines, side, other in ((new, 1, 0), (old, 0, 1)):
            start, end = before[side] + before[2], after[side]
            if start < end and before[other] + before[2] == after[other]:  # lines came or went, none were replaced
                shift = _slide(lines, start, end, before[2], after[2]) - start
                before[2] += shift
                after[:] = [after[0] + shift, after[1] + shift, after[2] - shift]
    return [(i, j, length) for i, j, length in found]


def hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[Hunk]:
    """What turns old into new, in the order of old."""
    i = j = 0
    for start, other, length in matches(old, new):
        if i < start or j < other:
            yield Hunk(i, start, tuple(new[j:other]))
        i, j = start + length, other + length


def changed(old: Sequence[str], new: Sequence[str]) -> int:
    """How many lines came or went."""
    return len(old) + len(new) - 2 * sum(length for _, _, length in matches(old, new))


def _slide(lines: Sequence[str], start: int, end: int, room_above: int, room_below: int) -> int:
    """Where a block of lines that came or went should start, of the places that give the same text.

    A principle put between two others that end alike could as well begin with the last line of the one before it.
    The block begins where the indentation is least, and takes along the blank line below it.
    """
    first = last = start
    while start - first < room_above and lines[first - 1] == lines[first - 1 + end - start]:
        first -= 1
    while last - start < room_below and lines[last] == lines[last + end - start]:
        last += 1

    def rank(place: int) -> tuple[int, bool, int]:
        block = lines[place : place + end - start]
        written = next((line for line in block if line.strip()), "")
        return len(written) - len(written.lstrip()), bool(block[-1].strip()), -place

    return min(range(first, last + 1), key=rank)
