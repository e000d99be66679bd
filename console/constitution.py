"""`precept constitution check | show | diff | new`: files of principles, at the terminal.

Nothing here starts a run or opens the store. YAML, pydantic and rich are imported by the command that needs them, so
that `precept --help` stays instant. A mistake is raised as UserError; the entry point prints it and exits with 2.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from constitution.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from constitution.difference import Change, Diff
    from constitution.principles import Constitution, Principle
    from constitution.records import Messages

app = typer.Typer(no_args_is_help=True, help="Check, show, compare and begin files of principles.")

DEFAULT = Path("principles.yaml")
File = Annotated[Path, typer.Argument(metavar="[FILE]", help="A file of principles.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(file: File = DEFAULT, as_json: Json = False) -> None:
    """Say what is wrong with FILE, all of it at once, or that it is sound."""
    from constitution.principles import Constitution
    from constitution.problems import ConstitutionError

    try:
        constitution = Constitution.load(file)
    except ConstitutionError as error:
        if not as_json:
            raise
        problems = [
            {"line": p.line, "column": p.column, "path": p.path, "message": p.message, "hint": p.hint}
            for p in error.problems
        ]
        _print_json({"file": str(file), "ok": False, "problems": problems})
        raise typer.Exit(2) from None
    if as_json:
        _print_json({"file": str(file), "ok": True, "problems": [], **_summary(constitution)})
        return
    console = _console()
    console.print(_literal(f"{file}: {_count(len(constitution), 'principle')}, no mistakes"))
    console.print(_literal(f"version {constitution.version}", "dim"))


@app.command()
def show(
    file: File = DEFAULT,
    id: Annotated[str, typer.Argument(metavar="[ID]", help="Show this principle in full.")] = "",
    as_json: Json = False,
) -> None:
    """List the principles of FILE, or show one of them in full. `show ID` reads principles.yaml."""
    from constitution.principles import Constitution

    if not id and re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", str(file)) and not file.exists():
        file, id = DEFAULT, str(file)
    constitution = Constitution.load(file)
    if id:
        try:
            principle = constitution[id]
        except KeyError:
            known = ", ".join(p.id for p in constitution)
            raise UserError(f"{file} has no principle `{id}`. It has: {known}.") from None
        if as_json:
            _print_json(_principle_json(principle))
        else:
            _show_one(_console(), principle)
    elif as_json:
        _print_json({**_summary(constitution), "principles": [_principle_json(p) for p in constitution]})
    else:
        _show_all(_console(), constitution)


@app.command(name="diff")
def diff_(
    old: Annotated[Path, typer.Argument(metavar="A", help="The earlier file.")],
    new: Annotated[Path, typer.Argument(metavar="B", help="The later file.")],
    as_json: Json = False,
) -> None:
    """Say what changed from A to B, and which principles the judge or the critic has to be asked about anew."""
    from constitution.difference import diff
    from constitution.principles import Constitution

    result = diff(Constitution.load(old), Constitution.load(new))
    if as_json:
        _print_json(
            {
                "old": result.old.version,
                "new": result.new.version,
                "same_version": result.same_version,
                "asks_judge": list(result.asks_judge),
                "changes": [_change_json(change) for change in result.changes],
            }
        )
    else:
        _show_diff(_console(), result)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where to write; never over an existing file.")],
    start: Annotated[str, typer.Option("--from", metavar="NAME", help="The starting point to copy.")] = "",
) -> None:
    """Write a file of principles to begin with, from one of the starting points that ship."""
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
    _console().print(_literal(f"{path}: written from `{start}`. Next: precept constitution check {path}"))


def _taken(path: Path) -> UserError:
    return UserError(f"{path} exists already, and is left as it is. Name another path, or move it away first.")


def _ask(choices: dict[str, str]) -> str:
    console = _console()
    for number, (name, text) in enumerate(choices.items(), 1):
        console.print(_literal(f"{number}  {name:<14}{text}"))
    answer = str(typer.prompt("Begin with (number or name)")).strip()
    names = list(choices)
    return names[int(answer) - 1] if answer.isdecimal() and 0 < int(answer) <= len(names) else answer


# --- on the screen -----------------------------------------------------------------------------------------------


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _literal(text: str, style: str = "") -> Any:
    from console.text import literal

    return literal(text, style)


def _show_all(console: Console, constitution: Constitution) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "weight", "title", "tags"):
        table.add_column(name, justify="right" if name == "weight" else "left", no_wrap=name == "id")
    for p in constitution:
        table.add_row(_literal(p.id, "bold"), _weight(p.weight), _literal(p.title), _literal(", ".join(p.tags), "dim"))
    console.print(_literal(constitution.name, "bold"))
    console.print(table)
    console.print(_literal(f"version {constitution.version}", "dim"))


def _show_one(console: Console, principle: Principle) -> None:
    from rich.padding import Padding

    def part(name: str, text: str) -> None:
        if text:
            console.print(_literal(name, "dim"))
            console.print(Padding(_literal(text), (0, 0, 0, 2), expand=False))

    console.print(_literal(principle.id, "bold"), _literal(principle.title))
    part("weight", _weight(principle.weight))
    part("tags", ", ".join(principle.tags))
    for name in ("applies", "critique", "revision", "comparison"):
        part(name, getattr(principle, name))
    for exemplar in principle.exemplars:
        words = (exemplar.response, exemplar.critique, exemplar.revision)
        part("exemplar", "\n\n".join([_dialogue(exemplar.prompt), *words]))
    for example in principle.examples:
        part("example", f"{_dialogue(example.prompt)}\n\nbetter: {example.better}\n\nworse: {example.worse}")


def _show_diff(console: Console, result: Diff) -> None:
    from rich.table import Table

    if not result.changes:
        console.print("No principle differs.")
    for change in result.changes:
        name = f"{change.old.id} -> {change.id}" if change.kind == "renamed" and change.old else change.id
        console.print(_literal(change.kind, "bold"), _literal(name))
        for field, before, after in _sides(change):
            console.print(_literal(f"  {field}", "dim"))
            sides = Table.grid(padding=(0, 1))
            if before:
                sides.add_row(_literal("  -", "red"), _literal(before, "red"))
            if after:
                sides.add_row(_literal("  +", "green"), _literal(after, "green"))
            console.print(sides)
        console.print(_literal(f"  {_cost(change)}", "dim"))
    if result.same_version:
        console.print("Same version: no model reads anything else.")
    elif result.asks_judge:
        console.print(_literal(f"The judge is asked anew on {len(result.asks_judge)} of {len(result.new)} principles."))
    else:
        console.print("The judge is asked nothing anew: labels follow from the verdicts there are.")


def _sides(change: Change) -> list[tuple[str, str, str]]:
    """Field, words before, words after, for each field that differs."""
    names = change.fields or ("title", "critique", "revision", "comparison", "weight")
    rows = ((name, _field(change.old, name), _field(change.new, name)) for name in names)
    return [row for row in rows if row[0] != "id"]


def _field(principle: Principle | None, name: str) -> str:
    if principle is None:
        return ""
    value = _principle_json(principle)[name]
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2 if name in ("exemplars", "examples") else None)


def _cost(change: Change) -> str:
    if change.kind == "removed":
        return "costs no call; only its own draws move"
    asked = [
        *(["the judge is asked anew"] if change.asks_judge else []),
        *(["critiques and revisions are written anew where it is drawn"] if change.asks_critic else []),
        *(["draws move to it"] if change.kind == "added" else []),
        *(["its draws move"] if change.kind == "renamed" else []),
    ]
    return "; ".join(asked) or "costs no call"


def _weight(thousandths: int) -> str:
    return f"{thousandths / 1000:g}"


def _dialogue(messages: Messages) -> str:
    return "\n".join(f"{m.role}: {m.content}" for m in messages)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- for machines ------------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    """ASCII, so that nothing in it reaches the terminal as a control character."""
    typer.echo(json.dumps(value, indent=2))


def _summary(constitution: Constitution) -> dict[str, Any]:
    return {"constitution": constitution.name, "version": constitution.version, "count": len(constitution)}


def _principle_json(principle: Principle) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(principle), "weight": principle.weight / 1000}


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "id": change.id,
        "kind": change.kind,
        "was": change.old.id if change.old else None,
        "fields": list(change.fields),
        "asks_judge": change.asks_judge,
        "asks_critic": change.asks_critic,
        "redraws": change.redraws,
    }
