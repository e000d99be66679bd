"""`precept flow`: any flow by its name. A flow that has no command of its own prints JSON.

Single steps of the loop keep to the same store, so a later `precept improve` with the same settings finds what they
answered.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json, MaxCalls, MaxCost, MaxTokens, Quiet, Set, SettingsFile, Verbose, flags_of, limits
from cli.results import show_left_out
from cli.screen import put, put_json
from cli.start import run_flow


def flow(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The flow; without one they are listed.")] = "",
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run any flow of flows/ by its name and print its result as JSON.

    Example: precept flow revise --set revise.rounds=2
    """
    if not name:
        from flows.discovery import names

        for found in names():
            put(found)
        return
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    put_json(run_flow(name, settings, flags, quiet, verbose))


# --- under the names that they had before: they print words ------------------------------------------------------


def respond(
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Have the policy answer the training prompts, and nothing else.

    Example: precept flow respond --set prompts=prompts.jsonl
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    result = run_flow("respond", settings, flags, quiet, verbose)
    if as_json:
        put_json(result)
        return
    put(f"{result['answers']} answers are in the store, run {result['run'][:12]}")
    show_left_out(result)


def revise(
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Have the policy answer, criticise and revise, and the judge say which revisions are better.

    Example: precept flow revise --set revise.rounds=2
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    result = run_flow("revise", settings, flags, quiet, verbose)
    if as_json:
        put_json(result)
        return
    made = result["revisions"]
    put(f"{made['chains']} chains, {made['kept']} revisions kept, run {result['run'][:12]}")
    put(f"the judge finds {result['better']} of {result['judged']} revisions better than the answer they began from")
    show_left_out(result)
