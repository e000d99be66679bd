"""`precept model lineage`: where anything came from, and what came of it, as text, JSON or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import completing
from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json, tell
from constitution.errors import UserError

_SUFFIXES = (".svg", ".png")


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A checkpoint (folder, id, `promoted`), run, data set, amendment (number, version, `ratified`), "
            "principle, comparison, generation or prompt, by its id or the first digits of it.",
            autocompletion=completing.traced,
        ),
    ],
    back: Annotated[bool, typer.Option("--back", help="Only what it was made of.")] = False,
    forward: Annotated[bool, typer.Option("--forward", help="Only what was made of it.")] = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into a .svg or .png file.")] = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Trace anything: a model back to its data, labels, verdicts, principles and who wrote them; a principle forward to
    all that was trained on it. Where a name fits several things, write what it is: checkpoint:3f2a.

    Example: precept model lineage promoted --picture lineage.svg
    """
    if picture is not None and picture.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{picture}: a picture is an .svg or a .png file; name it so")
    from service.pictures.lineage.text import lines
    from service.queries.lineage import trace

    with store_of(load(settings)) as store:
        graph = trace(store, what, back=back or not forward, forward=forward or not back)
    if picture is not None:
        from service.pictures.lineage.picture import save

        save(graph, picture)
        tell(f"drawn into {picture}")
    if as_json:
        put_json(graph.as_dict())
    else:
        for line in lines(graph):
            put(line)
