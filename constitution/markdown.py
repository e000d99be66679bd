"""A diff of two constitutions as Markdown: what a reviewer of a pull request wants to read.

Nothing that a person or a model wrote is obeyed by what renders it: words are escaped, whatever a forge would turn
into a link, a mention or a formula goes into a code span, and whole texts into fences longer than any run of
backticks in them. No HTML is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from typing import Any

from constitution.difference import VOICE, WORDING, Change, Diff
from constitution.principles import Example, Exemplar, Principle
from constitution.records import WEIGHT, Messages
from constitution.visible import visible

MAX_TEXT = 2_000  # characters of an answer that are shown: forges refuse comments beyond some 65,000
_WORDS = ("title", "applies", "critique", "revision", "comparison", "why", "twin")
_LINKED = re.compile(r"[@#$]|://|www\.|:[\w+-]+:", re.IGNORECASE)  # what forges render as something else
_SYNTAX = re.compile(r"[\\`*_\[\]|~]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LINE_START = re.compile(r"^(?:(\d+)(?=[.)]$)|(?=[-+=]+$))")  # a list, a rule or a heading


@dataclass(frozen=True, slots=True)
class Cost:
    """What the default retrain would take. `seconds` is None where no rate was measured."""

    verdicts: int
    tokens: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Flip:
    """A label that turns: the pair, its label `before` and `after` in words, the ids of the principles that did it."""

    prompt: str
    first: str
    second: str
    before: str
    after: str
    principles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Flips:
    """Of `total` labels, `flipped` are known to turn, and `open` ones wait for what the judge will answer."""

    total: int
    flipped: int
    open: int
    examples: Sequence[Flip] = ()


def markdown(diff: Diff, *, cost: Cost | None = None, flips: Flips | None = None) -> str:
    """The whole comment, ending in a line break. Prices and flips are shown where they are given."""
    versions = f"`{diff.old.version[:12]}` → `{diff.new.version[:12]}`"
    if diff.same_version:
        versions = f"`{diff.new.version[:12]}`, the same version: no request, draw or label changes"
    blocks = [f"**Constitution:** {summary(diff)}", f"Version {versions}."]
    if diff.changes:
        blocks.append(_table(diff))
    if cost is not None:
        seconds = "" if cost.seconds is None else f", about {cost.seconds:,.0f} s"
        blocks.append(f"**Price of a default retrain:** {cost.verdicts:,} verdicts, {cost.tokens:,} tokens{seconds}.")
    if flips is not None:
        share = f" ({flips.flipped / flips.total:.1%})" if flips.total else ""
        waiting = f"; {flips.open:,} more depend on what the judge will answer" if flips.open else ""
        blocks.append(f"**Labels that flip:** {flips.flipped:,} of {flips.total:,}{share}{waiting}.")
    for change in diff.changes:
        blocks += _section(change)
    if flips is not None and flips.examples:
        blocks.append("### Labels that flip")
        for flip in flips.examples:
            blocks += _flip(flip)
    return "\n\n".join(blocks) + "\n"


def summary(diff: Diff) -> str:
    """What changed, in a few words: `1 added, 2 reworded`. A principle may count more than once."""
    what = [kind for change in diff.changes for kind in _what(change)]
    counts = {kind: what.count(kind) for kind in _KINDS if kind in what}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no principle differs"


_KINDS = (
    "added", "removed", "renamed", "reworded", "reweighted", "judged otherwise", "asked of other prompts", "retitled",
    "retagged", "with other examples",
)  # fmt: skip
_KIND_OF = {
    **dict.fromkeys(VOICE, "reweighted"), **dict.fromkeys(WORDING, "reworded"), "judge": "judged otherwise",
    "when": "asked of other prompts", "title": "retitled", "tags": "retagged", "examples": "with other examples",
    "twin": "with other examples",
}  # fmt: skip
_SHOWN = (
    "critique", "revision", "comparison", "why", "applies", "when", "weight", "tier", "hard", "overridable", "judge",
    "exemplars", "examples",
)  # fmt: skip


def _what(change: Change) -> list[str]:
    found = {_KIND_OF[name] for name in change.fields if name in _KIND_OF}
    if change.kind != "changed":
        found.add(change.kind)
    return [kind for kind in _KINDS if kind in found]


# --- what changed, and what it costs -------------------------------------------------------------------------------


def _table(diff: Diff) -> str:
    rows = ["| principle | change | what it costs |", "|---|---|---|"]
    return "\n".join(rows + [f"| {_name(c)} | {', '.join(_what(c))} | {_costs(c)} |" for c in diff.changes])


def _name(change: Change) -> str:
    if change.kind == "renamed" and change.old:
        return f"{code(change.old.id)} → {code(change.id)}"
    return code(change.id)


def _costs(change: Change) -> str:
    costs = [
        *(["judge asked anew"] if change.asks_judge else []),
        *(["checked anew, by code: no call"] if change.runs_checks else []),
        *(["chains stale where it is drawn"] if change.asks_critic and change.kind != "added" else []),
        *(["chains stale where it was drawn"] if change.kind in ("removed", "renamed") else []),
        *(["chains stale where it will be drawn"] if change.kind == "added" else []),
    ]
    return "; ".join(costs) or "nothing"


def _section(change: Change) -> Iterator[str]:
    """The words of one principle, before and after."""
    title = (change.new or change.old).title  # type: ignore[union-attr]
    yield f"### {_name(change)}: {', '.join(_what(change))}"
    if "title" not in change.fields:
        yield _quote([_escaped(title)])
    for name in change.fields or _SHOWN:
        before, after = _value(change.old, name), _value(change.new, name)
        if name == "id" or before == after:
            continue
        yield f"**{name}**"
        if name in ("exemplars", "examples"):
            yield fenced("\n".join(_lines_changed(before, after)), "diff")
        else:
            yield marked(before, after) if change.old and change.new else _quote(_plain(before or after))


def _value(principle: Principle | None, name: str) -> str:
    """A field as people read it."""
    if principle is None:
        return ""
    value: Any = getattr(principle, name)
    if name == "weight":
        return f"{value / WEIGHT:g}"
    if name in ("tags", "overridable"):
        return " ".join(value)
    if name in ("tier", "hard"):
        return str(value).lower() if value else ""
    if name in ("judge", "when"):
        return json.dumps(value.as_dict(), ensure_ascii=False) if value else ""
    return value if name in _WORDS or name == "id" else "\n\n".join(_shot(shot) for shot in value)


def _shot(shot: Exemplar | Example) -> str:
    names = ("response", "critique", "revision") if isinstance(shot, Exemplar) else ("better", "worse")
    return "\n".join([_dialogue(shot.prompt), *(f"{name}: {getattr(shot, name)}" for name in names)])


def _dialogue(messages: Messages) -> str:
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def _lines_changed(before: str, after: str) -> Iterator[str]:
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="")
    return (line for line in lines if not line.startswith(("---", "+++", "@@")))


def _flip(flip: Flip) -> Iterator[str]:
    because = ", ".join(code(id) for id in flip.principles)
    yield f"**{_escaped(flip.before)} → {_escaped(flip.after)}**" + (f", because of {because}" if because else "")
    for name, text in (("prompt", flip.prompt), ("first", flip.first), ("second", flip.second)):
        yield f"{name}:\n\n{fenced(text)}"


# --- words that are not obeyed -------------------------------------------------------------------------------------


def marked(before: str, after: str) -> str:
    """Both texts in one quotation, word by word: what went ~~struck~~, what came **bold**."""
    old, new = _tokens(before), _tokens(after)
    lines: list[list[str]] = [[]]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("delete", "replace"):
            struck = [word for word in old[i1:i2] if word != "\n"]
            lines[-1] += [f"~~{' '.join(map(word, struck))}~~"] if struck else []
        mark = "" if tag == "equal" else "**"
        for number, part in enumerate(_split(new[j1:j2])):
            if number:
                lines.append([])
            if part:
                words = " ".join(word(text, first=not lines[-1] and not mark and not n) for n, text in enumerate(part))
                lines[-1].append(f"{mark}{words}{mark}")
    return _quote(" ".join(line) for line in lines)


def word(text: str, first: bool = False) -> str:
    """A word that no renderer takes for anything else; `first` on its line."""
    text = visible(text)
    if _LINKED.search(text):
        return code(text)
    text = _SYNTAX.sub(r"\\\g<0>", text.translate(_ENTITIES))
    return _LINE_START.sub(r"\1\\", text) if first else text


def code(text: str) -> str:
    """A code span."""
    text = " ".join(visible(text).split())
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def fenced(text: str, language: str = "text") -> str:
    """A block of code: the text as it is, but for what is hidden in it, and for what is beyond a screenful."""
    shown = visible(text[:MAX_TEXT])
    if len(text) > MAX_TEXT:
        shown += f"\n... and {len(text) - MAX_TEXT:,} more characters"
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _tokens(text: str) -> list[str]:
    return re.findall(r"\n|[^\s]+", text)


def _split(tokens: Sequence[str]) -> list[list[str]]:
    """Tokens of each line."""
    lines: list[list[str]] = [[]]
    for token in tokens:
        if token == "\n":
            lines.append([])
        else:
            lines[-1].append(token)
    return lines


def _escaped(text: str) -> str:
    """A text as one line."""
    return " ".join(word(text, first=not n) for n, text in enumerate(text.split()))


def _plain(text: str) -> list[str]:
    return [_escaped(line) for line in text.split("\n")]


def _quote(lines: Iterable[str]) -> str:
    """A quotation that keeps its line breaks."""
    rows = list(lines)
    pairs = zip(rows, [*rows[1:], ""], strict=True)
    return "\n".join(f"> {row}{chr(92) if row and following else ''}".rstrip(" ") for row, following in pairs)
