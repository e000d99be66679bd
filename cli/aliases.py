"""The names that commands had in earlier versions. Each still works with the options it had; `--help` does not list it,
and one line on standard error says what it is called now.

`judge FILE`, `schedule FLOW` and `review` are groups today, which fall back to a command (`cli/tree.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli import agreement, data, flow, lineage, models, runs
from cli.constitution import amend, attribute, compare
from cli.options import Json, SettingsFile, load, store_of
from cli.tree import renamed
from constitution.errors import UserError

NAMES: dict[str, tuple[str, Callable[..., None]]] = {
    "agreement": ("review agreement", agreement.agreement),
    "amend": ("constitution amend", amend.amend),
    "attribution": ("constitution attribute", attribute.attribute),
    "compare-constitutions": ("constitution compare", compare.compare),
    "evaluate": ("model evaluate", models.evaluate),
    "lineage": ("model lineage", lineage.lineage),
    "report": ("run report", runs.report),
    "export": ("data export", data.export),
    "import": ("data import", data.import_),
    "respond": ("flow respond", flow.respond),
    "revise": ("flow revise", flow.revise),
}


def register(app: typer.Typer) -> None:
    """Put every old name into the tree, hidden."""
    for name, (new, command) in NAMES.items():
        app.command(name, hidden=True, cls=renamed(new))(command)
    app.command("promote", hidden=True, cls=renamed("model promote, rollback and list --promotions"))(promote)


def promote(
    checkpoint: Annotated[str, typer.Argument(metavar="[CHECKPOINT]", help=models.CHECKPOINT)] = "",
    why: Annotated[str, typer.Option("--why", help="The reason, kept for good.")] = "",
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to what was promoted before.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Every promotion so far.")] = False,
    merge: Annotated[Path | None, typer.Option(metavar="OUT", help="Full weights of a LoRA checkpoint.")] = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Promote a checkpoint, go back, or list the promotions: three commands today.

    Example: precept promote 3f2a --why "reviewed by hand"
    """
    if list_:
        from service.queries import models as queries

        with store_of(load(settings)) as store:
            models.show_promotions(queries.promotions(store), as_json)
        return
    if bool(checkpoint) == rollback:
        raise UserError("name a checkpoint, or write --rollback: precept model promote CHECKPOINT --why TEXT")
    if rollback and merge is not None:
        raise UserError("--merge goes with a checkpoint, not with --rollback")
    if rollback:
        models.rollback(why, settings, as_json)
    else:
        models.promote(checkpoint, why, merge, settings, as_json)
