"""An edit of one field, one example or one principle in the text of a constitution; every other line stays as it is.

For forms, whose writers never see the YAML. Comments and layout are other people's words, so nothing is written anew
but the lines of the value: where those cannot be told apart (an entry in braces on one line), the edit is refused, and
the text is edited as text. Whatever comes out says what it said before but for the edit, or it is refused, too.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from constitution import loading
from constitution.errors import UserError
from constitution.layout import Layout, Path, read_layout
from constitution.lines import join
from constitution.principles import Constitution, Principle
from constitution.problems import LINE_BREAK

FIELDS = ("title", "comparison", "why", "critique", "revision", "weight", "tags", "twin", "applies")
WIDTH = 110  # columns of a folded text
_COMMENT = re.compile(r"\s+#.*")


class ByHand(UserError):
    """The edit cannot be made line by line; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("this part of the text is written so that a form cannot change it alone: edit it as text")


def set_field(text: str, id: str, field: str, value: str) -> str:
    """The text with one field of a principle changed; an empty value of an optional one removes it. `value` as people
    write it: a number for `weight`, words between commas for `tags`. Raises ConstitutionError, ByHand."""
    sheet = _Sheet(text)
    number = sheet.number(id)
    path: Path = ("principles", number, field)
    value = " ".join(value.split()) if field in ("title", "weight", "tags", "applies") else value.strip()
    if path in sheet.layout.keys:
        first, last = sheet.extent(path)
        kept = sheet.comment(path)
        new = sheet.entry(path, sheet.indent(path), field, value, kept) if value else []
        if not value and sheet.column(path) != sheet.indent(path):
            raise ByHand  # it stands on the line of the dash
    elif value:
        first = last = sheet.end_of(("principles", number, "comparison"))
        new = sheet.lines_of(sheet.keys_at(number), field, value)
    else:
        return text
    return _checked(text, sheet.with_lines(first, last, new), number, field)


def add_example(text: str, id: str, prompt: str, better: str, worse: str) -> str:
    """The text with one more example at the end of a principle's. Raises ConstitutionError, ByHand."""
    sheet = _Sheet(text)
    number = sheet.number(id)
    path: Path = ("principles", number, "examples")
    at = sheet.keys_at(number)
    if path in sheet.layout.keys:
        places = [(*path, n) for n in range(len(sheet.constitution.principles[number].examples))]
        dash = sheet.indent(places[-1]) if places else at + 2
        head: list[str] = []
        place = sheet.end_of(path)
    else:
        dash, head = at + 2, [" " * at + "examples:"]
        place = sheet.end_of(("principles", number))
    entry = [
        line for name, said in (("prompt", prompt), ("better", better), ("worse", worse))
        for line in sheet.lines_of(dash + 2, name, said.strip())
    ]  # fmt: skip
    entry[0] = " " * dash + "- " + entry[0].lstrip()
    return _checked(text, sheet.with_lines(place, place, [*head, *entry]), number, "examples")


def remove_example(text: str, id: str, example: int) -> str:
    """The text without a principle's example, counted from 1; without `examples` where it was the only one. Raises
    ConstitutionError, ByHand, UserError where there is none."""
    sheet = _Sheet(text)
    number = sheet.number(id)
    path: Path = ("principles", number, "examples")
    there = sheet.constitution.principles[number].examples
    if not 1 <= example <= len(there):
        raise UserError(f"{id} has no example {example}: it has {len(there)}")
    first, last = sheet.extent(path) if len(there) == 1 else sheet.extent((*path, example - 1))
    return _checked(text, sheet.with_lines(first, last, []), number, "examples")


def add_principle(text: str, id: str, fields: Mapping[str, str]) -> str:
    """The text with one more principle at its end. Raises ConstitutionError (also for what the new one says)."""
    sheet = _Sheet(text)
    count = len(sheet.constitution)
    last: Path = ("principles", count - 1)
    dash = sheet.indent(last)
    entry = [" " * dash + f"- id: {_plain(id)}"]
    for name in FIELDS:
        if value := fields.get(name, "").strip():
            entry += sheet.lines_of(dash + 2, name, value)
    place = sheet.end_of(last)
    new = sheet.with_lines(place, place, ["", *entry])
    found = loading.parse(new, "the draft")
    if found.principles[:count] != sheet.constitution.principles:
        raise ByHand
    return new


def remove_principle(text: str, id: str) -> str:
    """The text without a principle, and the comment above it. Raises ConstitutionError, ByHand, UserError for the
    only one there is."""
    sheet = _Sheet(text)
    number = sheet.number(id)
    if len(sheet.constitution) == 1:
        raise UserError("a constitution has one principle at least: add another before you remove this one")
    first, last = sheet.extent(("principles", number))
    while first > 0 and sheet.lines[first - 1].strip().startswith("#"):
        first -= 1
    while last < len(sheet.lines) and not sheet.lines[last].strip():
        last += 1
    new = sheet.with_lines(first, last, [])
    kept = tuple(p for p in sheet.constitution if p.id != id)
    if loading.parse(new, "the draft").principles != kept:
        raise ByHand
    return new


def said(value: object) -> str:
    """A field as a form shows it."""
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


class _Sheet:
    """A text without mistakes, as lines (from 0), and where everything stands in them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.constitution: Constitution = loading.parse(text, "the draft")
        self.layout: Layout = read_layout(text)
        found = LINE_BREAK.split(text)
        self.lines = found if found[-1] else found[:-1]

    def number(self, id: str) -> int:
        for number, principle in enumerate(self.constitution):
            if principle.id == id:
                return number
        raise UserError(f"there is no principle {id!r}; there are {', '.join(p.id for p in self.constitution)}")

    def keys_at(self, number: int) -> int:
        """How far the keys of a principle are indented."""
        return self.column(("principles", number, "id"))

    def column(self, path: Path) -> int:
        """Where a key, or an entry of a list, begins on its line; of what stands on the line of a dash, behind it."""
        place = self.layout.keys.get(path) or self.layout.values.get(path)
        if place is None:
            raise ByHand
        return place[1] - 1

    def indent(self, path: Path) -> int:
        """How far the line itself is indented on which it begins."""
        line = self.lines[self.line(path)]
        return len(line) - len(line.lstrip(" "))

    def line(self, path: Path) -> int:
        place = self.layout.keys.get(path) or self.layout.values.get(path)
        if place is None:
            raise ByHand
        return place[0] - 1

    def extent(self, path: Path) -> tuple[int, int]:
        """The lines of a key with its value, or of an entry of a list: from its first line to behind its last."""
        first = self.line(path)
        before = self.lines[first][: self.column(path)].strip()
        if before not in ("", "-"):
            raise ByHand  # inside braces, behind something else
        return first, self.end_of(path)

    def end_of(self, path: Path) -> int:
        """The line behind the last one of a value, before blank lines and comments."""
        last = first = self.line(path)
        is_key = isinstance(path[-1], str)
        depth = self.column(path) if is_key else self.indent(path)
        for number in range(first + 1, len(self.lines)):
            line = self.lines[number].lstrip(" ")
            deep = len(self.lines[number]) - len(line)
            if not line.strip() or (line.startswith("#") and deep <= self.column(path)):
                continue  # of what comes next, unless something of ours follows
            if deep <= depth and not (is_key and deep == depth and line.startswith("- ")):  # a list may stand so
                break
            last = number
        return last + 1

    def comment(self, path: Path) -> str:
        """What a person wrote behind a plain value on its line."""
        written, place = self.layout.written.get(path), self.layout.values.get(path)
        if written is None or place is None:
            return ""
        rest = self.lines[place[0] - 1][place[1] - 1 :]
        found = _COMMENT.fullmatch(rest[len(written) :]) if rest.startswith(written) else None
        return found[0] if found else ""

    def entry(self, path: Path, indent: int, field: str, value: str, comment: str) -> list[str]:
        """A field's lines where it stood: behind the dash where it was the first."""
        column = self.column(path)
        new = self.lines_of(column, field, value)
        if len(new) == 1:
            new[0] += comment
        head = self.lines[self.line(path)][:column]
        return [head + new[0][column:], *new[1:]] if column != indent else new

    def lines_of(self, indent: int, name: str, value: str) -> list[str]:
        if name == "tags":
            words = [word.strip() for word in value.split(",") if word.strip()]
            return [" " * indent + f"tags: [{', '.join(_plain(word) for word in words)}]"]
        if name == "weight":
            return [" " * indent + f"weight: {value}"]
        return [" " * indent + line for line in _written(name, value, WIDTH - indent)]

    def with_lines(self, first: int, last: int, new: Sequence[str]) -> str:
        made = [*self.lines[:first], *new, *self.lines[last:]]
        return join(made, like=self.text if self.text.endswith(("\n", "\r")) else self.text + "\n")


def _written(name: str, value: str, width: int) -> list[str]:
    """`name: value` in as plain a way as reads the same again."""
    for lines in _ways(name, value, width):
        if read_layout("\n".join(lines) + "\n").value == {name: value}:
            return lines
    raise ByHand  # no way of writing says it: half a character


def _ways(name: str, value: str, width: int) -> Iterator[list[str]]:
    if "\n" not in value:
        if len(value) <= width:
            yield [f"{name}: {value}"]
        else:
            folded = textwrap.wrap(value, width, break_long_words=False, break_on_hyphens=False)
            yield [f"{name}: >-", *(f"  {line}" for line in folded)]
    else:
        yield [f"{name}: |-", *(f"  {line}" if line else "" for line in value.split("\n"))]
    yield [f"{name}: {json.dumps(value, ensure_ascii=False)}"]


def _plain(word: str) -> str:
    """A word of a list, in quotes where it needs them."""
    found = read_layout(f"a: [{word}]\n")
    return word if not found.problems and found.value == {"a": [word]} else json.dumps(word, ensure_ascii=False)


def _checked(old: str, new: str, number: int, field: str) -> str:
    """The new text, if it says what the old one says but for that field. Raises ConstitutionError, ByHand."""
    before, after = loading.parse(old, "the draft"), loading.parse(new, "the draft")
    if len(before) != len(after) or before.name != after.name:
        raise ByHand
    for n, (was, now) in enumerate(zip(before, after, strict=True)):
        if was != (_but(now, was, field) if n == number else now):
            raise ByHand
    return new


def _but(now: Principle, was: Principle, field: str) -> Principle:
    values = {field: getattr(was, field)}
    return replace(now, **values)
