"""`precept sweep`: methods and their KL coefficients side by side, as a table and a picture."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import Json, MaxCalls, MaxCost, MaxTokens, Quiet, Set, SettingsFile, Verbose, flags_of, limits
from cli.screen import number, percent, put, put_json, put_prose, put_table
from cli.start import run_flow
from constitution.errors import UserError
from pipeline.metrics import words

EXAMPLE = "--kl 0,0.05,0.2 for all methods, or --kl ppo=0,0.05 for one"


def sweep(
    method: Annotated[
        list[str] | None, typer.Option("--method", metavar="METHOD", help="A training method; repeatable.")
    ] = None,
    kl: Annotated[
        list[str] | None,
        typer.Option("--kl", metavar="[METHOD=]W,W,...", help="KL coefficients (of best-of-n, n); repeatable."),
    ] = None,
    settings: SettingsFile = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed is another sweep.")] = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train by several methods at several KL coefficients, and draw reward, judge and truth against KL.

    On the development split: settings are chosen here, and held-out prompts stay unseen by the choice.

    Example: precept sweep --method ppo --method rloo --kl 0,0.05,0.2
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    if seed is not None:
        flags["seed"] = seed
    if method or kl:
        flags["sweep.methods"] = methods_of(method or [], kl or [])
    result = run_flow("sweep", settings, flags, quiet, verbose)
    put_json(result) if as_json else show(result)


def methods_of(names: list[str], weights: list[str]) -> dict[str, list[float]]:
    """Methods with their KL coefficients. One without a method is every method's."""
    everyone: list[float] = []
    own: dict[str, list[float]] = {}
    for given in weights:
        name, equals, values = given.rpartition("=")
        try:
            found = [float(value) for value in values.split(",")]
        except ValueError:
            raise UserError(f"--kl {given}: write numbers, {EXAMPLE}") from None
        if equals:
            own.setdefault(name, []).extend(found)
        else:
            everyone += found
    methods = names or list(own) or ["ppo"]
    return {name: own.get(name, everyone) for name in dict.fromkeys([*methods, *own])}


HEAD = ("model", "good", "harmful", "refuses", "malformed", "win rate", "reward", "KL", "tokens", "seconds", "MB")


def rows_of(points: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The points of a sweep as a table's rows, for `HEAD`."""
    return [
        (
            point["name"] + (f" (stopped, kept {point['watch_kept_step']})" if point.get("watch_stopped") else ""),
            *(percent(point["truth"].get(f"gold_{n}")) for n in ("good", "harmful", "needless_refusal", "malformed")),
            _win_rate(point["win_rate"]),
            number((point["reward"] or {}).get("mean"), 2),
            number((point["kl"] or {}).get("mean"), 2),
            number(point["surfaces"]["mean_tokens"], 1),
            number(point.get("seconds"), 0),
            number(point.get("peak_memory_mb"), 0),
        )
        for point in points
    ]


def _win_rate(win: dict[str, Any]) -> str:
    """With its interval: points of a sweep that lie within it are not told apart."""
    if win.get("low") is None:
        return words.number(win["mean"])
    return f"{words.number(win['mean'])} ({words.number(win['low'], 2)} to {words.number(win['high'], 2)})"


def show(result: dict[str, Any]) -> None:
    """A sweep's points as people read them."""
    put_table(HEAD, rows_of(result["points"]), right=HEAD[1:])
    put()
    put_prose(f"run {result['run'][:12]}, picture: {result['picture'] or '-'}")
