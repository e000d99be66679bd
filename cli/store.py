"""`precept store collect`: throwing away what nothing needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json, put_table

if TYPE_CHECKING:
    from service.actions.collect import Collected

app = typer.Typer(no_args_is_help=True, help="The store: what it keeps, and what it may forget.")


@app.callback()
def _group() -> None:
    """A group although it has one command."""


@app.command()
def collect(
    days: Annotated[float, typer.Option("--days", min=0, help="Keep what is younger.")] = 30.0,
    archive: Annotated[
        bool,
        typer.Option(
            "--archive", help="First archive runs that ended before then and whose checkpoints were never promoted."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count it, and delete nothing.")] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Delete records that no run, checkpoint, person or ratified constitution needs, older than some days.

    Runs, their results, prompts, events and checkpoints always stay. An archived run keeps its result, and loses the
    records that only it needs.

    Example: precept store collect --days 90 --archive --dry-run
    """
    from service.actions.collect import collect

    with store_of(load(settings)) as store:
        done = collect(store, days, archive=archive, dry_run=dry_run)
    put_json(done.as_dict()) if as_json else _show(done)


def _show(done: Collected) -> None:
    would = "would be " if done.dry_run else ""
    for run in done.archived:
        put(f"run {run.id.hex()[:12]} ({run.kind}, {run.status} {(run.finished or '')[:10]}) {would}archived")
    put_table((f"{would}deleted", "rows"), [(n, f"{count:,}") for n, count in done.deleted.items()], right=("rows",))
    if done.dry_run:
        put("nothing was changed" + ("; what archived runs alone need comes on top" if done.archived else ""))
