"""`precept report`: where the report of a run is."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from cli.options import SettingsFile, load, store_of
from cli.screen import put
from constitution.errors import UserError


def report(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="A run, by the first digits of its id.")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Print the path of a run's report, one HTML file that opens from disk.

    Example: precept report --open
    """
    with store_of(load(settings)) as store:
        runs = [store.run(run)] if run else store.runs()
    reports = [r.result["report"] for r in runs if isinstance(r.result, dict) and r.result.get("report")]
    if not reports:
        raise UserError("no such run has a report: a run gets one when it is finished (precept run list)")
    path = Path(reports[0])
    if not path.is_file():
        raise UserError(f"the report {path} is not there any more; run it again in another slot, or restore the file")
    put(str(path))
    if open_:
        webbrowser.open(path.resolve().as_uri())
