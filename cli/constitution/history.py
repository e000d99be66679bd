"""`precept constitution log | blame | restore`: who amended the constitution, when and why, and back to what it was."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json, put_table
from constitution.errors import UserError

if TYPE_CHECKING:
    from storage.amendments import Amendment

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
    from service.queries import history

    with store_of(load(settings)) as store:
        entries = history.log(store)
    if as_json:
        put_json([entry.as_dict() for entry in entries])
        return
    if not entries:
        raise UserError(
            "nothing has been ratified yet: the first run, or `precept constitution amend`, ratifies a constitution"
        )
    rows = [
        (str(of.number), of.version[:12], of.at[:16].replace("T", " "), of.who, of.message, entry.summary)
        for entry in entries
        for of in (entry.amendment,)
    ]
    put_table(("no", "version", "at (UTC)", "who", "why", "what changed"), rows, right=("no",))


def blame(revision: Revision = "ratified", settings: SettingsFile = None, as_json: Json = False) -> None:
    """Each line of the ratified file, or of REV's, with the amendment that wrote it and why.

    Example: precept constitution blame ratified
    """
    from service.queries import history

    with store_of(load(settings)) as store:
        lines = history.blame(store, revision)
    if as_json:
        put_json([line.as_dict() for line in lines])
        return
    for row in _rows([(line.amendment, line.text) for line in lines]):
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
    as_json: Json = False,
) -> None:
    """Write an earlier text of the constitution over FILE, byte for byte, and with -m put it in force again.

    No model is asked. FILE is left alone where it holds text that was never ratified.

    Example: precept constitution restore 2 -m "the new wording made it refuse too much"
    """
    from flows import announcing
    from service.actions.restore import restore
    from service.settings import process_user

    loaded = load(settings)
    path = file or loaded.constitution
    where = loaded.store.get_secret_value()
    with store_of(loaded) as store:
        done = restore(
            store, revision, path, process_user(), message, told=lambda made: announcing.ratified(made, where)
        )
    if as_json:
        put_json(done.as_dict())
        return
    wanted = done.wanted
    if done.ratified is not None:
        put(f"amendment {done.ratified.number} is in force: the text of amendment {wanted.number}")
    if done.written:
        put(f"{path}: the text of amendment {wanted.number}, version {wanted.version[:12]}")
    else:
        put(f"{path} has the text of amendment {wanted.number} already")
    if done.in_force:
        put("this text is in force")
    else:
        put(f"to put it in force: precept constitution amend {shlex.quote(str(path))} --ratify -m WHY")
