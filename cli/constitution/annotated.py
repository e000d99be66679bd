"""`precept constitution export`: who prefers which answer, principle by principle, as annotated pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, RunId, SettingsFile, load, store_of
from cli.screen import put, put_json
from service.actions.data_files import Split


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .json file.")],
    run: RunId = "",
    split: Annotated[Split, typer.Option(help="Of these prompts.")] = Split.all,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Write a run's comparisons as annotated pairs (version 2): what the judge, each principle and people say of each.

    Inverse Constitutional AI and Feedback Forensics read such files; `precept data import preferences`, `precept judge
    pairs` and `precept judge trial` do, too.

    Example: precept constitution export annotated-pairs.json --run 3f9a12
    """
    from service.actions.annotated_pairs import export as write

    with store_of(load(settings)) as store:
        done = write(store, out, run, split)
    if as_json:
        put_json(done.as_dict())
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in done.annotators.items())
    put(f"{out}: {done.comparisons:,} comparisons of run {done.run[:12]}, annotators: {kinds}")
    put(f"preferences of the file itself: {done.default}")
