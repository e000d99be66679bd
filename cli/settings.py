"""`precept settings`: every value, and where it came from; and what one setting does. No secret is ever shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import completing
from cli.options import Json, Set, SettingsFile, flags_of
from cli.screen import put, put_json, put_table
from cli.tree import falling

app = typer.Typer(cls=falling("show", alone=True), help="Settings: every value with its origin, and what each does.")


@app.command()
def show(
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs from its default.")] = False,
    file: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Every setting with its value and origin: default, the file, environment or flag. `precept settings` is this.

    Example: precept settings show --changed
    """
    from service import settings as module
    from service.queries.settings import in_force

    found = in_force(*module.load(file, flags_of(set_)))
    if changed:
        found = [setting for setting in found if setting.changed]
    if as_json:
        put_json([setting.as_dict() for setting in found])
    else:
        put_table(("setting", "value", "origin"), [(s.name, _said(s.value), s.origin) for s in found])


@app.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in judge.model.", autocompletion=completing.settings)],
    file: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Say what a setting does, its type and default, its value and where that came from.

    Example: precept settings explain gate.min_win_rate
    """
    from service import settings as module
    from service.queries import settings

    found = settings.explain(name, *module.load(file, flags_of(set_)))
    if as_json:
        put_json(found.explained())
        return
    put(f"{found.name}: {found.known.does}")
    of = "" if found.name == found.known.name else f" (in the table {found.known.name})"
    put(f"{found.known.kind}{of}, default {_shown(found.default)}; now {_shown(found.value)}, from {found.origin}")


def _said(value: Any) -> str:
    return "" if value is None else str(value)


def _shown(value: Any) -> str:
    """As in the settings' file; a value that is not there is `none`."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
