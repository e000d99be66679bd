"""`precept review disagreements`: pairs on which people and the judge differ, or two people do, with their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, RunId, SettingsFile, load, store_of
from cli.screen import put, put_json, tell

if TYPE_CHECKING:
    from service.queries.disagreements import Disagreement

WORDS = {"first": "1 is better", "second": "2 is better", "tie": "a tie", "skip": "skipped", None: "unreadable"}


def disagreements(
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Only where this person differs.")] = "",
    principle: Annotated[str, typer.Option(metavar="ID", help="Only where this principle decided the label.")] = "",
    most: Annotated[int, typer.Option("-n", min=1, help="How many pairs.")] = 20,
    after: Annotated[str, typer.Option(metavar="CURSOR", help="The next page, as the page before names it.")] = "",
    run: RunId = "",
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Pairs on which people and the judge differ, or two people do; those answered last come first.

    Example: precept review disagreements --principle harmless
    """
    from service.queries import disagreements as query

    with store_of(load(settings)) as store:
        page = query.disagreements(store, run, by or None, principle or None, most, after or None)
    if as_json:
        put_json(page.as_dict())
        return
    for item in page.items:
        _show(item)
    if not page.items:
        tell("nobody differs from the judge, nor from another, on a pair that was answered: precept review")
    if page.after:
        tell(f"there are more: --after {page.after}")


def _show(item: Disagreement) -> None:
    label = item.pair.label
    put(f"pair {label.comparison[:12]} ({label.stage})")
    for message in item.pair.dialogue:
        put(f"  {message.role}: {message.content}")
    put(f"  1: {item.pair.first}")
    put(f"  2: {item.pair.second}")
    decided = f", by {', '.join(item.deciding)}" if item.deciding else ""
    put(f"  the judge: {WORDS[item.judge]} (p {max(label.p, 1 - label.p):.2f}{decided})")
    for given in item.pair.reasons:
        order = "1 shown first" if given.shown == 1 else "2 shown first"
        put(f"  the judge's reasons, {', '.join(given.principles)}, {order}: {given.text}")
    for said in item.answers:
        reason = f": {said.reason}" if said.reason else ""
        put(f"  {said.reviewer}: {WORDS[said.answer]}{reason}")
    put()
