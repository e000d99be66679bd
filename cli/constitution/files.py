"""`precept constitution new | check | show`: files of principles, at the terminal.

Nothing here starts a run, and only `show REV` opens the store. YAML, pydantic and rich are imported by the command that
needs them, so that `precept --help` stays instant. A mistake is raised as UserError; the entry point prints it and
exits with 2.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completing
from cli.constitution import history
from cli.constitution.diff import of_settings
from cli.options import Json, SettingsFile, load
from cli.screen import console, put_bytes, put_json
from cli.text import literal
from constitution.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from constitution.principles import Constitution, Principle
    from constitution.records import Messages
    from service.settings import Settings

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="A file of principles; the settings'.", show_default=False)
]


def check(file: File = None, as_json: Json = False) -> None:
    """Say what is wrong with FILE, all of it at once, or that it is sound. What is no mistake, and does nothing (a tag
    that no prompt has, a twin that nobody reads), is told as a notice, and fails nothing.

    Example: precept constitution check principles.yaml
    """
    from constitution import loading
    from constitution.problems import ConstitutionError, noticed
    from service.queries import declared, unread
    from service.queries.checked import Checked

    file = file or of_settings()
    try:
        constitution = loading.load(file)
        declared.check(constitution, str(file))
    except ConstitutionError as error:
        if not as_json:
            raise
        put_json({"file": str(file), **Checked("", None, error.problems).as_dict()})
        raise typer.Exit(2) from None
    notices = unread.notices(constitution, _project())
    if as_json:
        put_json({"file": str(file), **Checked("", constitution, (), notices).as_dict()})
        return
    screen = console()
    more = f", {_count(len(notices), 'notice')}" if notices else ""
    screen.print(literal(f"{file}: {_count(len(constitution), 'principle')}, no mistakes{more}"))
    if notices:
        screen.print(literal(f"\n{noticed(str(file), notices, constitution.source)}\n"))
    screen.print(literal(f"version {constitution.version}", "dim"))


def _project() -> Settings | None:
    """The settings of the project here, where they can be read: a check of a file does not hang on them."""
    try:
        return load(None)
    except UserError:
        return None


def show(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE|REV]", help="A file, or an amendment; the settings' file.", show_default=False),
    ] = None,
    id: Annotated[
        str,
        typer.Argument(metavar="[ID]", help="Show this principle in full.", autocompletion=completing.principles),
    ] = "",
    source: Annotated[bool, typer.Option("--source", help="Print the text itself, byte for byte.")] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """List the principles of FILE or of an amendment, or show one of them in full. `show ID` reads the settings' file.

    Example: precept constitution show ratified --source
    """
    from constitution import loading

    if file is None:
        file = of_settings(settings)
    elif not id and _is_principle(file, settings):
        file, id = of_settings(settings), str(file)
    if source and (id or as_json):
        raise UserError("--source prints the whole text: leave out ID and --json")
    if history.is_revision(str(file)) and not file.exists():
        amendment = history.amendment(str(file), settings)
        constitution = loading.parse(amendment.text, f"amendment {amendment.number}")
        text = amendment.text.encode()
    else:
        constitution = loading.load(file)
        text = file.read_bytes() if source else b""
    if source:
        put_bytes(text)  # it was checked: nothing in it is obeyed by a terminal
        return
    if id:
        try:
            principle = constitution[id]
        except KeyError:
            known = ", ".join(p.id for p in constitution)
            raise UserError(f"{file} has no principle `{id}`. It has: {known}.") from None
        if as_json:
            put_json(principle.as_dict())
        else:
            _show_one(console(), principle)
    elif as_json:
        put_json({**_summary(constitution), "principles": [p.as_dict() for p in constitution]})
    else:
        _show_all(console(), constitution)


def _is_principle(name: Path, settings: Path | None) -> bool:
    """Whether `show NAME` means a principle of the settings' file: no file, and no revision unless one is called so."""
    from constitution import loading

    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", str(name)) or name.exists():
        return False
    try:
        return not history.is_revision(str(name)) or str(name) in loading.load(of_settings(settings)).weights()
    except UserError:
        return False


def new(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where to write; never over an existing file.")],
    start: Annotated[str, typer.Option("--from", metavar="NAME", help="The starting point to copy.")] = "",
) -> None:
    """Write a file of principles to begin with, from one of the starting points that ship.

    Example: precept constitution new my-principles.yaml --from assistant
    """
    from constitution.starting_points import starting_point, starting_points

    choices = starting_points()
    if os.path.lexists(path):  # asked before any question is put; `x` below decides
        raise _taken(path)
    if not start and sys.stdin.isatty():
        start = _ask(choices)
    if start not in choices:
        listed = "\n".join(f"  {name:<14}{text}" for name, text in choices.items())
        wrong = f"there is no starting point `{start}`" if start else "which starting point?"
        raise UserError(f"{wrong} Choose one with --from:\n{listed}")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(starting_point(start))
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}. Check the folder and its permissions.") from None
    console().print(literal(f"{path}: written from `{start}`. Next: precept constitution check {path}"))


def _taken(path: Path) -> UserError:
    return UserError(f"{path} exists already, and is left as it is. Name another path, or move it away first.")


def _ask(choices: dict[str, str]) -> str:
    screen = console()
    for number, (name, text) in enumerate(choices.items(), 1):
        screen.print(literal(f"{number}  {name:<14}{text}"))
    answer = str(typer.prompt("Begin with (number or name)")).strip()
    names = list(choices)
    return names[int(answer) - 1] if answer.isdecimal() and 0 < int(answer) <= len(names) else answer


# --- on the screen -----------------------------------------------------------------------------------------------


def _show_all(screen: Console, constitution: Constitution) -> None:
    """A row a principle; what most do without (tier, judge, when) has a column where one of them says it."""
    from rich.table import Table

    more = {
        "decides": [_decides(p) for p in constitution],
        "judge": [p.judge.method if p.judge else "" for p in constitution],
        "when": [_when(p) for p in constitution],
        "overridable": [" or ".join(p.overridable) for p in constitution],
    }
    shown = {name: cells for name, cells in more.items() if any(cells)}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "weight", "title", *shown, "tags"):
        table.add_column(name, justify="right" if name == "weight" else "left", no_wrap=name == "id")
    for row, p in enumerate(constitution):
        cells = (literal(column[row]) for column in shown.values())
        tags = literal(", ".join(p.tags), "dim")
        table.add_row(literal(p.id, "bold"), _weight(p.weight), literal(p.title), *cells, tags)
    screen.print(literal(constitution.name, "bold"))
    screen.print(table)
    screen.print(literal(f"version {constitution.version}", "dim"))


def _decides(principle: Principle) -> str:
    tier = f"tier {principle.tier}" if principle.tier else ""
    return ", ".join(part for part in ("hard" if principle.hard else "", tier) if part)


def _when(principle: Principle) -> str:
    """On which prompts it votes, in short."""
    when = principle.when
    if when is None:
        return ""
    parts = (", ".join(when.tags), "checked" if when.rule_json else "", "asked" if when.ask else "")
    return "; ".join(part for part in parts if part)


def _show_one(screen: Console, principle: Principle) -> None:
    from rich.padding import Padding

    def part(name: str, text: str) -> None:
        if text:
            screen.print(literal(name, "dim"))
            screen.print(Padding(literal(text), (0, 0, 0, 2), expand=False))

    screen.print(literal(principle.id, "bold"), literal(principle.title))
    part("weight", _weight(principle.weight))
    part("tier", str(principle.tier or ""))
    part("hard", "yes: its vote decides before every tier" if principle.hard else "")
    part("overridable", " or ".join(principle.overridable))
    part("judge", json.dumps(principle.judge.as_dict(), ensure_ascii=False) if principle.judge else "")
    part("when", json.dumps(principle.when.as_dict(), ensure_ascii=False) if principle.when else "")
    part("tags", ", ".join(principle.tags))
    for name in ("why", "applies", "critique", "revision", "comparison", "twin"):
        part(name, getattr(principle, name))
    for exemplar in principle.exemplars:
        words = (exemplar.response, exemplar.critique, exemplar.revision)
        part("exemplar", "\n\n".join([_dialogue(exemplar.prompt), *words]))
    for example in principle.examples:
        part("example", f"{_dialogue(example.prompt)}\n\nbetter: {example.better}\n\nworse: {example.worse}")


def _weight(thousandths: int) -> str:
    return f"{thousandths / 1000:g}"


def _dialogue(messages: Messages) -> str:
    return "\n".join(f"{m.role}: {m.content}" for m in messages)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- for machines ------------------------------------------------------------------------------------------------


def _summary(constitution: Constitution) -> dict[str, Any]:
    return {"constitution": constitution.name, "version": constitution.version, "count": len(constitution)}
