"""`precept retrain`: a model that follows the amended constitution."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.options import Json, MaxCalls, MaxCost, MaxTokens, Quiet, Set, SettingsFile, Verbose, flags_of, limits
from cli.results import show
from cli.screen import put_json
from cli.start import run_flow


class Start(StrEnum):
    pool = "pool"
    revise = "revise"
    scratch = "scratch"


def retrain(
    top_up: Annotated[
        bool, typer.Option("--top-up", help="Add answers and pairs where a new principle finds nothing to prefer.")
    ] = False,
    start: Annotated[
        Start | None, typer.Option("--from", help="Keep the pool of answers; or revise anew; or begin anew.")
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="RUN", help="The run to start from; the one that is promoted.")
    ] = "",
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    slot: Annotated[str, typer.Option("--slot", help="A name that tells repeated retrains apart.")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Follow an amendment: ask only what it made unknown, train again from the right parent, measure, decide.

    Under the ratified constitution, whatever the file says by now. What each way would cost:
    precept constitution amend FILE.

    Example: precept retrain --top-up
    """
    flags: dict[str, Any] = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    if top_up:
        flags["retrain.top_up"] = True
    if start is not None:
        flags["retrain.start"] = start.value
    if base:
        flags["retrain.base"] = base
    if slot:
        flags["slot"] = slot
    result = run_flow("retrain", settings, flags, quiet, verbose)
    put_json(result) if as_json else show(result)
