"""YAML text -> plain values and the place of each, finding every mistake of the writing that can be found at once.

It reads ruamel.yaml's events, not its composed values: so anchors, aliases, merge keys and tags are refused before
anything is expanded, nesting is bounded without recursion, both of two equal keys are seen, and a wrong type is
known by what was written (`yes`, `0x1F`), not by what it became. What the values must be is `shape.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from constitution.problems import LINE_BREAK, SHOWN, Problem

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]  # line and column, from 1

MAX_DEPTH = 12  # the format needs 7
MAX_EVENTS = 8_000  # about 400 principles, a third of a second of reading
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_TOO_FAR = re.compile(r"\\U(?!000|0010)[0-9A-Fa-f]{8}")
QUOTE = 'Put the whole text in double quotes: "..."'


class Refused:
    """Stands for a value that was already complained about, so that nobody complains again."""


REFUSED = Refused()


@dataclass(slots=True)
class Layout:
    """`value` of the document and, by path, where each value and each key stands and what a plain scalar was."""

    value: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    complete: bool = False  # the text was read to its end

    def place(self, path: Path) -> Place:
        """Where a value stands; for one that is not there, what holds it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))

    def complain(self, place: Place, message: str, hint: str, path: Path = ()) -> None:
        self.problems.append(Problem(*place, path_text(path), message, hint))


def path_text(path: Path) -> str:
    """`("principles", 2, "critique")` as `principles[2].critique`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def read_layout(text: str) -> Layout:
    """Values, places and mistakes of a YAML text. Never raises for what is written in it."""
    layout = Layout()
    root = _Node("list", (1, 1))
    try:
        layout.complete = _grow(root, YAML(typ="safe", pure=True).parse(text), layout)
    except MarkedYAMLError as error:
        told = {problem.line for problem in layout.problems}  # `*so*` is an alias first, and bad syntax because of it
        layout.problems += [problem for problem in _syntax(error, text) if problem.line not in told]
    except (ValueError, OverflowError):  # ruamel's chr() of an escape beyond Unicode, which has no mark
        found = _TOO_FAR.search(text)
        before = LINE_BREAK.split(text[: found.start() if found else 0])
        place = (len(before), len(before[-1]) + 1)
        layout.complain(place, "this escape names no character", "Write the character itself.")
    if root.items:
        layout.value = _value(root.items[0], (), layout)
    return layout


# --- events -> nodes ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """`items` of a mapping: key, value, key, value ... `text` of a scalar; `plain` when it was not quoted."""

    kind: Literal["scalar", "list", "mapping", "alias"]
    place: Place
    text: str = ""
    plain: bool = False
    items: list[_Node] = field(default_factory=list)


def _grow(root: _Node, events: Iterator[Event], layout: Layout) -> bool:
    """Hang the documents' nodes under `root`. False when it stopped before the end. No recursion: depth is hostile."""
    open_nodes = [root]
    documents = 0
    for count, event in enumerate(events):
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if count > MAX_EVENTS:
            layout.complain(
                place, f"more than {MAX_EVENTS:,} entries", "Keep a constitution to a few hundred principles."
            )
            return False
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                layout.complain(
                    place, "a second document begins here", "Remove the line `---` or `...`: one file, one document."
                )
                return False
            if event.version or event.tags:
                layout.complain((1, 1), "a `%` directive changes how the file is read", "Remove that line.")
        elif isinstance(event, CollectionEndEvent):
            open_nodes.pop()
        elif isinstance(event, NodeEvent):
            _refuse_indirection(event, place, layout)
            node = _node(event, place)
            open_nodes[-1].items.append(node)
            if node.kind in ("list", "mapping"):
                open_nodes.append(node)
            if len(open_nodes) - 1 > MAX_DEPTH:
                layout.complain(
                    place, f"nested deeper than {MAX_DEPTH} levels", "`precept constitution new` shows the format."
                )
                return False
    return True


def _node(event: NodeEvent, place: Place) -> _Node:
    if isinstance(event, ScalarEvent):
        return _Node("scalar", place, event.value, plain=event.style is None and event.tag is None)
    if isinstance(event, AliasEvent):
        return _Node("alias", place)
    return _Node("mapping" if isinstance(event, MappingStartEvent) else "list", place)


def _refuse_indirection(event: NodeEvent, place: Place, layout: Layout) -> None:
    """Every principle shows its own words: nothing is copied from elsewhere or built by a tag."""
    hint = "{} A text that begins with `{}`: put it in double quotes."
    if isinstance(event, AliasEvent):
        layout.complain(
            place, f"`*{event.anchor}` is an alias, and aliases are not read", hint.format("Write the value out.", "*")
        )
    elif event.anchor is not None:
        layout.complain(
            place, f"`&{event.anchor}` is an anchor, and anchors are not read", hint.format("Remove it.", "&")
        )
    tag = getattr(event, "tag", None)
    if tag is not None:
        layout.complain(place, f"`{tag}` is a YAML tag, and tags are not read", hint.format("Remove it.", "!"))


# --- nodes -> values ---------------------------------------------------------------------------------------------


def _value(node: _Node, path: Path, layout: Layout) -> Any:
    """The plain value of a node, no deeper than MAX_DEPTH."""
    layout.values[path] = node.place
    if node.kind == "alias":
        return REFUSED
    if node.kind == "list":
        return [_value(item, (*path, i), layout) for i, item in enumerate(node.items)]
    if node.kind == "mapping":
        return _mapping(node, path, layout)
    if not node.plain:
        return node.text
    layout.written[path] = node.text
    return _plain(node.text)


def _mapping(node: _Node, path: Path, layout: Layout) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in zip(node.items[::2], node.items[1::2], strict=False):  # a broken file may lack the last value
        inner = (*path, key.text)
        if key.kind in ("list", "mapping"):
            hint = "Write `key: value`; put a text that begins with `[` or `{` in double quotes."
            layout.complain(key.place, "a key must be a word", hint, path)
        elif key.plain and key.text == "<<":
            layout.complain(key.place, "merge keys (`<<`) are not read", "Write the keys out.", path)
        elif inner in layout.keys:
            hint = "Keep one of the two: YAML readers disagree on which one counts."
            layout.complain(
                key.place, f"`{key.text}` is here twice, first on line {layout.keys[inner][0]}", hint, inner
            )
        elif key.kind == "scalar":
            layout.keys[inner] = key.place
            result[key.text] = _value(item, inner, layout)
            if result[key.text] is None:
                layout.values[inner] = key.place  # an empty value has no place of its own
    return result


def _plain(text: str) -> Any:
    """An unquoted scalar by YAML 1.2's core schema: `no`, `on` and `12:30:00` are text."""
    if _NULL.fullmatch(text):
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _BASED.fullmatch(text):
        return int(text, 0) if len(text) < 16 else math.inf
    if _NUMBER.fullmatch(text):
        if len(text) < 16 and text.lstrip("+-").isdigit():  # Python refuses to read an integer of 5,000 digits
            return int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _syntax(error: MarkedYAMLError, text: str) -> list[Problem]:
    """What ruamel could not read, in words for the person who wrote it."""
    what, mark = error.problem or "", error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if "'\\t'" in what:
        tabs = [n for n, row in enumerate(LINE_BREAK.split(text), 1) if re.match(r" *\t", row) and row.strip()]
        return [
            Problem(n, 1, "", "a tab indents this line", "YAML is indented with spaces only: use two for each level.")
            for n in tabs[:SHOWN] or [line]
        ]
    message, hint = next(
        ((said, do) for sign, said, do in _SYNTAX if re.search(sign, what)),
        (f"cannot be read as YAML{what and ': '}{what}", QUOTE),
    )
    if error.context_mark and re.search("end of stream|<stream end>", what):  # where it was opened
        line, column = error.context_mark.line + 1, error.context_mark.column + 1
    character = re.search(r"'(.)' that cannot start", what)
    return [Problem(line, column, "", message.replace("{}", character[1] if character else ""), hint)]


_SYNTAX = (  # a sign in ruamel's words, what is wrong, what to do
    (
        r"mapping values are not allowed",
        "a `:` here makes a second key where a text or another indent was expected",
        f"{QUOTE} Or line this key up with the others.",
    ),
    (
        r"unexpected end of stream",
        "this quote is never closed",
        'Close it with the same quote; inside double quotes write \\" for a quote.',
    ),
    (r"<stream end>", "the bracket that was opened is never closed", "Close it with `]` or `}`."),
    (r"that cannot start any token", "`{}` cannot begin an unquoted text", QUOTE),
    (
        r"<block (sequence|mapping) start>|found '\?'|found '-'|<document start>",
        "the indentation fits nothing above",
        "Line the entry up with its neighbours: two spaces for each level.",
    ),
    (
        r"expected <block end>",
        "something goes on after the closing quote or bracket",
        "Inside double quotes write \\\" for a quote; inside single quotes write '' for one.",
    ),
    (
        r"could not find expected ':'",
        "the line above is neither `key: value` nor part of a text",
        "Indent it under its key, or write `key: value`.",
    ),
    (
        r"unknown escape|escape sequence",
        "this backslash begins no known escape",
        "Write \\\\ for a backslash, or put the text in single quotes.",
    ),
    (
        r"expected ',' or|expected the node content",
        "a bracket does not match",
        "Write [a, b] with a comma between entries; quote a text that begins with a bracket.",
    ),
    (
        r"indentation indicators|a comment or a line break",
        "a text begins on the line of `|` or `>`",
        "Begin it on the next line, indented; or put it in double quotes.",
    ),
    (
        r"entries are not allowed",
        "a list cannot begin on this line",
        f"Begin it on the next line with `- `. For a text that begins with `-`: {QUOTE[0].lower()}{QUOTE[1:]}",
    ),
    (r"URI|expected '>'|alphabetic or numeric", "an unquoted text cannot begin with `!`, `&` or `*`", QUOTE),
    (r"keys are not allowed", "an unquoted text cannot begin with `? `", QUOTE),
)
