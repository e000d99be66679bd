"""Templates, and the one door by which a text of a model or a person reaches a page: the filters `said` and `plain`.

Everything is escaped. What a screen would obey or hide (control, bidirectional, zero-width characters, lone surrogates)
is shown as a mark with its number. A long text is cut, and says so: a line of two megabytes stops no page.
"""

from __future__ import annotations

import difflib
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from constitution.records import Message
from constitution.visible import visible

TEMPLATES, STATIC = Path(__file__).parent / "templates", Path(__file__).parent / "static"
MOST = 4000  # characters of one text on a page
COMPARED = 4000  # words of two texts that are compared word by word
_MARK = re.compile(r"<U\+([0-9A-F]{4,6})>")
_WORDS = re.compile(r"\s+|\S+")


def new_key() -> str:
    """The key of a form: sent twice, it is one act."""
    return secrets.token_hex(16)


def render(request: Request, template: str, /, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page. `values` may name a `command` that does the same, and the `user`; who is signed in is there anyway."""
    values = {
        "user": request.state.user,
        "navigation": request.app.state.navigation,
        "path": request.url.path,
        "command": None,
        **values,
    }
    return HTMLResponse(environment().get_template(template).render(request=request, **values), status_code)


def marked(text: object) -> Markup:
    """Escaped, hidden characters as marks. A text that holds `<U+202E>` as letters is shown as these letters."""
    raw = str(text)
    shown: list[Markup] = []
    for piece in re.split(r"(\n)", raw):
        seen = visible(piece)
        if seen == piece:
            shown.append(escape(piece))
            continue
        for char in piece:
            one = visible(char)
            found = _MARK.fullmatch(one) if one != char else None
            shown.append(Markup('<span class="mark">U+{}</span>').format(found[1]) if found else escape(char))
    return Markup("").join(shown)


def said(text: object, limit: int = MOST) -> Markup:
    """A text of a model or a person, as text."""
    raw = str(text)
    cut = len(raw) - limit
    more = Markup('<span class="cut">{:,} more characters</span>').format(cut) if cut > 0 else Markup()
    return Markup('<bdi class="said" dir="auto">{}</bdi>{}').format(marked(raw[:limit]), more)


def plain(text: object, limit: int = 200) -> str:
    """For attributes and titles: one line, nothing hidden."""
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def field(text: object) -> str:
    """For the content of a form's field, which is sent back as it is: all of it, but lone surrogates and NUL, which
    HTML cannot carry."""
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def dialogue(messages: Iterable[Message], limit: int = MOST) -> Markup:
    """A conversation, turn by turn."""
    turn = Markup('<div class="turn turn-{0}"><span class="role">{0}</span>{1}</div>')
    return Markup("").join(turn.format(m.role, said(m.content, limit)) for m in messages)


def differences(before: str, after: str) -> Markup:
    """`after` with what is new as <ins> and what is gone of `before` as <del>, word by word."""
    one, two = _WORDS.findall(before[:MOST]), _WORDS.findall(after[:MOST])
    shown: list[Markup] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if kind == "equal":
            shown.append(marked("".join(one[a:b])))
            continue
        if b > a:
            shown.append(Markup("<del>{}</del>").format(marked("".join(one[a:b]))))
        if d > c:
            shown.append(Markup("<ins>{}</ins>").format(marked("".join(two[c:d]))))
    return Markup('<bdi class="said" dir="auto">{}</bdi>').format(Markup("").join(shown))


def number(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def percent(value: float | None) -> str:
    return "not known" if value is None or value != value else f"{value:.1%}"


def share(value: Any) -> str:
    """A share or an interval (`mean`, `low`, `high`) in words."""
    if value is None:
        return "not known"
    of = value if isinstance(value, dict) else value.as_dict()
    middle = of.get("mean", of.get("share"))
    if middle is None or middle != middle:
        return "not known"
    return f"{middle:.1%} (95% interval {of['low']:.1%} to {of['high']:.1%})"


def ago(value: str | float | None) -> Markup:
    """A moment as people say it, the exact one in `title`. ISO 8601 or Unix seconds."""
    if value is None or value == "":
        return Markup("never")
    at = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S} UTC", _since((datetime.now(UTC) - at).total_seconds(), at)
    )


def _since(seconds: float, at: datetime) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(abs(seconds) // size)
        if count >= (8 if name == "day" else 1) and name == "day" and count > 7:
            return f"{at:%Y-%m-%d}"
        if count:
            some = f"{count} {name}{'s' * (count != 1)}"
            return f"{some} ago" if seconds > 0 else f"in {some}"
    return "just now" if seconds >= 0 else "in a moment"


def short(value: object) -> Markup:
    """The first digits of an id, as code."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    return Markup("<code>{}</code>").format(plain(text[:12]))


_environments: list[Environment] = []


def environment() -> Environment:
    if not _environments:
        made = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        made.filters |= {
            "said": said, "plain": plain, "field": field, "dialogue": dialogue, "differences": differences,
            "number": number, "percent": percent, "share": share, "ago": ago, "short": short, "marked": marked,
        }  # fmt: skip
        made.globals["new_key"] = new_key
        _environments.append(made)
    return _environments[0]
