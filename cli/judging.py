"""`precept judge pairs`: labels for the pairs of a file, by the constitution; `judge trial` is in `trying.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import (
    Json,
    Map,
    MaxCalls,
    MaxCost,
    MaxTokens,
    Quiet,
    Set,
    SettingsFile,
    Verbose,
    flags_of,
    limits,
    names_of,
)
from cli.results import show_left_out
from cli.screen import percent, put_json, put_prose, put_table
from cli.start import run_flow
from cli.tree import falling
from cli.trying import trial

app = typer.Typer(
    cls=falling("pairs", was="judge FILE"),
    no_args_is_help=True,
    help="The judge: labels for pairs of your own, and whether it is right.",
)
app.command("trial")(trial)


@app.command()
def pairs(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Rows of prompt, a, b, or of people's prompt, chosen, rejected; see docs/data.md."
        ),
    ],
    map_: Map = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be used.")] = False,
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Label the pairs of a file by the constitution. Where it says which people prefer, measure the agreement.

    Example: precept judge pairs pairs.jsonl --json
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost) | {"pairs": pairs_of(file, map_, skip_bad)}
    result = run_flow("judge", settings, flags, quiet, verbose)
    put_json(result) if as_json else _show_labels(result)


def pairs_of(file: Path, map_: list[str] | None, skip_bad: bool) -> str | dict[str, Any]:
    """The setting `pairs`: the file, and where they are given its columns by the names that they have here."""
    more: dict[str, Any] = {"map": names} if (names := names_of(map_)) else {}
    more |= {"skip_bad": True} if skip_bad else {}
    return {"path": str(file), **more} if more else str(file)


def _show_labels(result: dict[str, Any]) -> None:
    labels = result["labels"]
    put_prose(
        f"{labels['count']} pairs: {labels['decided']} decided, {labels['tied']} tied, "
        f"{labels['unreadable']} unreadable, run {result['run'][:12]}"
    )
    show_left_out(result)
    agreed = result["agrees_with_file"]
    if agreed:
        put_prose(
            f"agrees with the file on {percent(agreed['mean'])} of the decided "
            f"(95% interval {percent(agreed['low'])} to {percent(agreed['high'])})"
        )
    found = result["consistency"].items()
    rows = [(name, percent(c["consistent"]), str(c["readable"]), str(c.get("abstained", 0))) for name, c in found]
    head = ("principle", "both orders agree", "pairs read", "abstained")
    put_table(head, rows, right=head[1:])
