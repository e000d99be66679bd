"""Options that several commands share, and what they become: settings, a store, a run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from constitution.errors import UserError

if TYPE_CHECKING:
    from service.settings import Settings
    from storage.store import Store

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="Settings; precept.toml when there is one.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting, as in revise.rounds=2; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
RunId = Annotated[str, typer.Option("--run", metavar="ID", help="The run, by the first digits of its id; the newest.")]


def flags_of(assignments: Sequence[str] | None) -> dict[str, Any]:
    """`name=value` flags as dotted settings. A value is read as TOML (true, 3, [1, 2]), or else as text."""
    flags: dict[str, Any] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set {assignment}: write NAME=VALUE, for example --set revise.rounds=2")
        flags[name.strip()] = toml_value(value)
    return flags


def toml_value(text: str) -> Any:
    """A value written as in TOML, or else the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def load(file: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    from service import settings

    loaded, _ = settings.load(file, flags)
    return loaded


@contextmanager
def store_of(settings: Settings) -> Iterator[Store]:
    """The settings' store, closed at the end."""
    from service.wiring import Wiring

    wiring = Wiring(settings)
    try:
        yield wiring.store
    finally:
        wiring.close()
