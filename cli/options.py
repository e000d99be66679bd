"""Options that several commands share, and what they become: settings, a store, a run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completing
from constitution.errors import UserError

if TYPE_CHECKING:
    from service.settings import Settings
    from storage.store import Store

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="Settings; precept.toml when there is one.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, as in revise.rounds=2; repeatable.",
        autocompletion=completing.assignments,
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="OURS=THEIRS",
        help="A column of the file by the name it has here: --map prompt=question, or inside of one, a=answers.0.text; "
        "split= leaves a column out; repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
RunId = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="ID",
        help="The run, by the first digits of its id; the newest.",
        autocompletion=completing.runs,
    ),
]
MaxCalls = Annotated[
    int | None, typer.Option("--max-calls", min=0, help="Stop after so many model requests, to judges, too.")
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=0, help="Stop after so many tokens, of judging, too.")
]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0, help="Stop when so much is spent.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Prefect's own log, too.")]


def limits(max_calls: int | None, max_tokens: int | None, max_cost: float | None) -> dict[str, Any]:
    """The three limits as flags, those that were given."""
    given = {"limits.max_calls": max_calls, "limits.max_tokens": max_tokens, "limits.max_cost": max_cost}
    return {name: value for name, value in given.items() if value is not None}


def flags_of(
    assignments: Sequence[str] | None, option: str = "--set", example: str = "revise.rounds=2"
) -> dict[str, Any]:
    """`name=value` flags as dotted settings. A value is read as TOML (true, 3, [1, 2]), or else as text."""
    flags: dict[str, Any] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise UserError(f"{option} {assignment}: write NAME=VALUE, for example {option} {example}")
        flags[name.strip()] = toml_value(value)
    return flags


def names_of(assignments: Sequence[str] | None) -> dict[str, str]:
    """`--map` flags: columns of the file by the names that they have here. Raises UserError for one that is none."""
    from pipeline.sources.shapes import check_names

    names: dict[str, str] = {}
    for assignment in assignments or ():
        ours, equals, theirs = (part.strip() for part in assignment.partition("="))
        if not equals or not ours:
            raise UserError(f"--map {assignment}: write OURS=THEIRS, for example --map prompt=question")
        names[ours] = theirs
    check_names(names)
    return names


def toml_value(text: str) -> Any:
    """A value written as in TOML, or else the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML; a number of thousands of digits; brackets without end
        return text
    return parsed["value"] if len(parsed) == 1 else text


def load(file: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    from service import settings

    loaded, _ = settings.load(file, flags)
    return loaded


DEFAULT_STORE = "sqlite:///runs/precept.db"
NO_PROJECT = (
    "there are no settings here, and nothing was written: `precept init` writes those of the sandbox, "
    "`precept init --from local mine` those for a model of yours"
)


def project(file: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings, for what needs a project. Raises UserError in a folder that is none."""
    loaded = load(file, flags)
    refuse_no_project(loaded)
    return loaded


def refuse_no_project(settings: Settings) -> None:
    """Raise UserError in a folder that is no project: it says nothing of a model or of prompts, and has no store."""
    roles = (settings.policy, settings.judge, settings.evaluator)
    named = settings.prompts or any(role is not None and role.model for role in roles)
    stored = settings.store.get_secret_value() != DEFAULT_STORE or Path("runs/precept.db").exists()
    if not named and not stored:
        raise UserError(NO_PROJECT)


@contextmanager
def store_of(settings: Settings) -> Iterator[Store]:
    """The settings' store, closed at the end. Raises UserError in a folder that is no project."""
    from service.wiring import Wiring

    refuse_no_project(settings)
    wiring = Wiring(settings)
    try:
        yield wiring.store
    finally:
        wiring.close()
