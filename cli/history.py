"""`precept constitution log | blame | restore`: who amended the constitution, when and why, and back to what it was."""

from __future__ import annotations

import codecs
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json, put_table
from constitution.errors import UserError

if TYPE_CHECKING:
    from constitution.difference import Change
    from storage.amendments import Amendment
    from storage.store import Store

WHO = 12  # characters of a name beside each line
_REVISION = re.compile(r"ratified|[0-9]{1,3}|[0-9a-fA-F]{4,32}")
Revision = Annotated[
    str, typer.Argument(metavar="[REV]", help="`ratified`, an amendment's number, the first digits of a version.")
]


def is_revision(name: str) -> bool:
    """Whether it may name an amendment; whether it does, the store knows."""
    return _REVISION.fullmatch(name) is not None


def amendment(revision: str, settings: Path | None) -> Amendment:
    """An amendment of the settings' store. Raises UserError where there is none of that name."""
    with store_of(load(settings)) as store:
        return store.amendment(revision)


def log(settings: SettingsFile = None, as_json: Json = False) -> None:
    """Every amendment, the newest first: who ratified it, why, and what it changed.

    Example: precept constitution log
    """
    with store_of(load(settings)) as store:
        past = store.amendments()
    rows = _entries(past)[::-1]
    if as_json:
        put_json(rows)
        return
    if not rows:
        raise UserError("nothing has been ratified yet: the first run, or `precept amend`, ratifies a constitution")
    put_table(
        ("no", "version", "at (UTC)", "who", "why", "what changed"),
        [
            (str(r["number"]), r["version"][:12], r["at"][:16].replace("T", " "), r["who"], r["message"], r["summary"])
            for r in rows
        ],
        right=("no",),
    )


def _entries(past: Sequence[Amendment]) -> list[dict[str, Any]]:
    from constitution.difference import diff
    from constitution.markdown import summary
    from constitution.principles import Constitution

    entries = []
    before: tuple[Amendment, Constitution] | None = None
    for amendment in past:
        new = Constitution.parse(amendment.text, f"amendment {amendment.number}")
        changes = diff(before[1], new) if before else None
        if changes is None:
            words = f"the first: {len(new)} principle{'s' * (len(new) != 1)}"
        elif changes.changes:
            words = summary(changes)
        else:
            words = "nothing" if before and before[0].text == amendment.text else "comments or layout"
        names = ("number", "version", "at", "who", "message", "parent", "event")
        entries.append(
            {name: getattr(amendment, name) for name in names}
            | {"summary": words, "changes": [_change(change) for change in changes.changes] if changes else []}
        )
        before = amendment, new
    return entries


def _change(change: Change) -> dict[str, Any]:
    return {"id": change.id, "kind": change.kind, "was": change.old.id if change.old else None}


def blame(revision: Revision = "ratified", settings: SettingsFile = None, as_json: Json = False) -> None:
    """Each line of the ratified file, or of REV's, with the amendment that wrote it and why.

    Example: precept constitution blame ratified
    """
    from constitution.blame import blame as trace

    with store_of(load(settings)) as store:
        past = store.amendments()[: store.amendment(revision).number]
    lines = [(past[blamed.index], blamed.line) for blamed in trace([a.text for a in past])]
    if as_json:
        put_json(
            [
                {"line": number, "text": text, "amendment": a.number, "version": a.version, "who": a.who, "at": a.at}
                | {"message": a.message}
                for number, (a, text) in enumerate(lines, 1)
            ]
        )
        return
    for row in _rows(lines):
        put(row)


def _rows(lines: Sequence[tuple[Amendment, str]]) -> Iterator[str]:
    """For each run of lines of one amendment its reason, then each line behind number, day and name."""
    number = max((len(str(a.number)) for a, _ in lines), default=0)
    who = max((min(len(a.who), WHO) for a, _ in lines), default=0)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0  # what reads a pipe wants whole lines
    for _, run in groupby(lines, key=lambda line: line[0].number):
        for place, (writer, text) in enumerate(run):
            if place == 0:
                yield from _folded(f"amendment {writer.number}: {' '.join(writer.message.split())}", width)
            gutter = f"  {writer.number:>{number}}  {writer.at[:10]}  {_clipped(writer.who):<{who}} | "
            for first, part in enumerate(_folded(text, width - len(gutter) if width else 0)):
                yield ((gutter if not first else f"{'| ':>{len(gutter)}}") + part).rstrip()


def _clipped(name: str) -> str:
    return name if len(name) <= WHO else name[: WHO - 1] + "…"


def _folded(text: str, width: int) -> list[str]:
    """The text in lines of a width (0: one line), the later ones indented a little deeper than the first."""
    if not width:
        return [text]
    indent = " " * (len(text) - len(text.lstrip(" ")) + 2)
    return textwrap.wrap(text, max(width, len(indent) + 20), subsequent_indent=indent, replace_whitespace=False) or [""]


def restore(
    revision: Annotated[str, typer.Argument(metavar="REV", help="The amendment to go back to.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write; the settings' constitution.")
    ] = None,
    message: Annotated[str, typer.Option("-m", "--message", help="Why: ratifies it too, at once.")] = "",
    settings: SettingsFile = None,
) -> None:
    """Write an earlier text of the constitution over FILE, byte for byte, and with -m put it in force again.

    No model is asked. FILE is left alone where it holds text that was never ratified.

    Example: precept constitution restore 2 -m "the new wording made it refuse too much"
    """
    from storage.artifacts import write_text

    loaded = load(settings)
    path = file or loaded.constitution
    with store_of(loaded) as store:
        wanted, past = store.amendment(revision), store.amendments()
        found = _bytes(path)
        if found is not None and not _was_ratified(found, past):
            raise UserError(
                f"{path} holds text that was never ratified, so it is left as it is. Copy it away first, or ratify it: "
                f"precept amend {shlex.quote(str(path))} --ratify -m WHY"
            )
        in_force = past[-1].text == wanted.text
        if message.strip() and not in_force:
            _ratify(store, wanted, past[-1], message, loaded.store.get_secret_value())
            put(f"amendment {len(past) + 1} is in force: the text of amendment {wanted.number}")
            in_force = True
        if found == wanted.text.encode():
            put(f"{path} has the text of amendment {wanted.number} already")
        else:
            write_text(path.resolve(), wanted.text)  # through a link, which stays
            put(f"{path}: the text of amendment {wanted.number}, version {wanted.version[:12]}")
    if in_force:
        put("this text is in force")
    else:
        put(f"to put it in force: precept amend {shlex.quote(str(path))} --ratify -m WHY")


def _ratify(store: Store, wanted: Amendment, now: Amendment, message: str, store_url: str) -> None:
    from flows import announcing
    from service.settings import process_user
    from storage.amendments import amendment_key

    key = amendment_key(now.event, wanted.text, message)
    store.ratify(wanted.version, process_user(), message, key, text=wanted.text, after=now.event)
    announcing.ratified(store.amendment("ratified"), store_url)


def _bytes(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None


def _was_ratified(data: bytes, past: Sequence[Amendment]) -> bool:
    """Whether a file's text was ever ratified; a mark at its beginning, and which line breaks it has, are no text."""
    text = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return any(text == a.text.encode().replace(b"\r\n", b"\n") for a in past)
