"""`precept constitution diff`: what changed between two constitutions, for a terminal, a pull request or a program."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.constitution.history import is_revision
from cli.options import Json, SettingsFile, load, store_of
from cli.screen import console, put_json, tell
from constitution.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from constitution.difference import Diff
    from constitution.principles import Constitution


def of_settings(settings: Path | None = None) -> Path:
    """The file of principles that the settings name: where a command is given none."""
    return Path(load(settings).constitution)


PATIENCE = 60  # seconds for git, which may have to fetch an object


def diff(
    old: Annotated[
        Path | None, typer.Argument(metavar="[A]", help="The earlier one: a file or an amendment.", show_default=False)
    ] = None,
    new: Annotated[Path | None, typer.Argument(metavar="[B]", help="The later one.", show_default=False)] = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="REV", help="Compare one file (the settings') with this: an amendment, a file, a git revision."
        ),
    ] = "",
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Say what changed from A to B, and which principles the judge or the critic has to be asked about anew.

    Example: precept constitution diff --against ratified
    """
    from constitution import loading
    from constitution.difference import diff
    from constitution.markdown import markdown

    if as_json and as_markdown:
        raise UserError("choose one of --json and --markdown")
    if against:
        if new is not None:
            raise UserError("--against compares one file: precept constitution diff [FILE] --against REV")
        file = old or of_settings(settings)
        result = diff(_revision(against, file, settings), loading.load(file))
    elif old is None or new is None:
        raise UserError("name two, files or amendments, or compare one: precept constitution diff [FILE] --against REV")
    else:
        result = diff(_named(old, new, settings), _named(new, old, settings))
    if as_markdown:
        typer.echo(markdown(result), nl=False)
    elif as_json:
        put_json(result.as_dict())
    else:
        show_diff(console(), result)


# --- what a file is compared with ----------------------------------------------------------------------------------


def _named(one: Path, other: Path, settings: Path | None) -> Constitution:
    """A file of that name, or else an amendment, or the other file as git has it at a revision."""
    from constitution import loading

    if one.exists() or one.suffix in (".yaml", ".yml") or not (is_revision(str(one)) or other.is_file()):
        return loading.load(one)
    return _revision(str(one), other, settings, by_itself=True)


def _revision(name: str, file: Path, settings: Path | None, by_itself: bool = False) -> Constitution:
    """An amendment, a file, or else the file as git has it at a revision. Raises UserError where it is none of them."""
    from constitution import loading

    if is_revision(name):
        with store_of(load(settings)) as store:
            try:
                amendment = store.amendment(name)
            except UserError:  # it may be a file or a commit
                if name == "ratified":
                    raise
            else:
                said = f"amendment {amendment.number} ({amendment.who}, {amendment.at[:10]})"
                tell(f"{name} is {said}" if by_itself else f"{file} against {said}")
                return loading.parse(amendment.text, f"amendment {amendment.number}")
    try:
        is_file = Path(name).is_file()
    except OSError:  # a name that no file can have
        is_file = False
    return loading.load(name) if is_file else _from_git(name, file)


def _from_git(revision: str, file: Path) -> Constitution:
    from constitution.loading import parse_bytes

    if revision.startswith("-"):
        raise UserError(f"{revision} is no revision: write the name of a branch, a tag or a commit")
    command = ["git", "show", f"{revision}:./{file.name}"]
    try:
        done = subprocess.run(command, cwd=file.parent, capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:  # ValueError: a NUL in the name
        reason = f"git could not be run: {error}"
    else:
        if done.returncode == 0:
            return parse_bytes(done.stdout, f"{revision}:{file.name}")
        said = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
        reason = f"git says: {said[0] if said else 'nothing'}"
    raise UserError(
        f"{revision} is no amendment and no file, and {reason}\n"
        "`precept constitution log` shows the amendments; in a shallow clone, fetch the branch first"
    )


# --- on the screen -------------------------------------------------------------------------------------------------


def show_diff(screen: Console, result: Diff) -> None:
    """Every change with both sides and what it costs, then what the judge is asked."""
    from rich.table import Table

    from cli.text import literal
    from service.queries import changes

    if not result.changes:
        screen.print("No principle differs.")
    for change in result.changes:
        screen.print(literal(change.kind, "bold"), literal(changes.name(change)))
        for row in changes.sides(change):
            screen.print(literal(f"  {row.field}", "dim"))
            sides = Table.grid(padding=(0, 1))
            if row.before:
                sides.add_row(literal("  -", "red"), literal(row.before, "red"))
            if row.after:
                sides.add_row(literal("  +", "green"), literal(row.after, "green"))
            screen.print(sides)
        screen.print(literal(f"  {changes.cost(change)}", "dim"))
    for line in changes.asked(result):
        screen.print(literal(line))
