"""`precept doctor`: what is installed and reachable, what is missing for which feature, and the command that mends it.

What is looked at is in `service/queries/doctor.py`; only what the settings in force need decides the exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.options import Json, Set, SettingsFile, flags_of
from cli.screen import put_json, put_prose, put_table

if TYPE_CHECKING:
    from service.queries.doctor import Health


def doctor(settings: SettingsFile = None, set_: Set = None, as_json: Json = False) -> None:
    """Say what is installed, what is missing for which feature, and what mends it.

    Example: precept doctor
    """
    from service.queries.doctor import look

    health = look(settings, flags_of(set_))
    put_json(health.as_dict()) if as_json else _show(health)
    if not health.ok:
        raise typer.Exit(1)


def _show(health: Health) -> None:
    rows = [(f.word, f.what, f.found, f.feature) for f in health.findings]
    put_table(("", "what", "found", "needed for"), rows)
    for f in health.findings:
        if not f.ok:
            put_prose(f"\n{f.what}, for {f.feature}:\n  {f.mend}")
    put_prose("\nall that these settings need is here" if health.ok else "")
