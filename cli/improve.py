"""`precept improve`, the whole loop; and what it would ask, with `--dry-run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import (
    Json,
    MaxCalls,
    MaxCost,
    MaxTokens,
    Quiet,
    Set,
    SettingsFile,
    Verbose,
    flags_of,
    limits,
    project,
)
from cli.results import show
from cli.screen import put, put_json, put_prose, put_table
from cli.start import run_flow

if TYPE_CHECKING:
    from service.queries.estimate import Estimate


def improve(
    settings: SettingsFile = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed is another run.")] = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Answer, label and train again, while it helps.")
    ] = None,
    slot: Annotated[str, typer.Option("--slot", help="A name that tells repeated runs apart.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be asked, and time a few requests where no run told.")
    ] = False,
    sample: Annotated[
        bool, typer.Option("--sample/--no-sample", help="Of a dry run: whether it may ask the models a little.")
    ] = True,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a model better by its constitution, and prove it: answer, revise, judge, train, measure, promote or refuse.

    Run again it goes on where it was; a finished run asks no model anything.

    Example: precept improve --seed 1 --max-calls 50000
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    if seed is not None:
        flags["seed"] = seed
    if rounds is not None:
        flags["rounds"] = rounds
    if slot:
        flags["slot"] = slot
    if dry_run:
        _estimate(settings, flags, as_json, sample)
        return
    result = run_flow("improve", settings, flags, quiet, verbose)
    put_json(result) if as_json else show(result)


def _estimate(file: Path | None, flags: dict[str, Any], as_json: bool, sample: bool) -> None:
    from service import preflight
    from service.queries.estimate import estimate
    from service.wiring import Wiring

    wiring = Wiring(project(file, flags))
    try:
        preflight.check_plan("improve", wiring)  # what the run would refuse is no work to count
        preflight.check_evaluator(wiring)
        found = estimate(wiring, sample)
    finally:
        wiring.close()
    put_json(found.as_dict()) if as_json else _show_estimate(found)


def _show_estimate(found: Estimate) -> None:
    rows = [(s.name, f"{s.calls:,}", f"{s.tokens:,}") for s in found.stages]
    put_table(("at most", "calls", "tokens"), rows, right=("calls", "tokens"))
    put()
    prompts = found.prompts
    dev = f", {prompts['dev']} for development (sweep, further rounds)" if prompts["dev"] else ""
    put_prose(f"prompts  {prompts['train']} to train on, {prompts['heldout']} held out{dev}")
    for line in found.trials.values():
        put_prose(f"trial    {line}")
    for why in found.refused:
        put_prose(f"gate     nothing could be promoted: {why}")
    for line in found.placement.lines() if found.placement else ():
        put_prose(f"device   {line}")
    for line in found.placement.refused if found.placement else ():
        put_prose(f"device   does not fit: {line}")
    if found.run is not None:
        put_prose(f"run      {found.run.id.hex()[:12]} is {found.run.status}: what it has is not asked again")
    put_prose(
        f"calls    {found.calls():,}: {found.calls('generate'):,} generated, {found.calls('choose'):,} judge calls"
    )
    put_prose(f"tokens   about {found.tokens:,}" + ("" if found.measured_by else ", guessed from the texts' lengths"))
    if found.cost_per_1k_tokens:
        put_prose(f"cost     about {found.as_dict()['cost']:.2f}")
    seconds = found.as_dict()["seconds"]
    if seconds is None:
        put_prose("time     not measured yet: no run was finished here, and no model was asked")
    elif found.sample and not found.finished:
        put_prose(f"time     about {seconds:.0f} s and the training, measured now on {found.sample.requests} requests")
    else:
        put_prose(f"time     about {seconds:.0f} s, at the last run's rate")
