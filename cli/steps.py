"""`precept respond | revise | judge | evaluate`: single steps of the loop, each a flow of its own.

They keep to the same store, so a later `precept improve` with the same settings finds what they answered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.improve import MaxCalls, MaxCost, MaxTokens, Quiet, Verbose, limits, run_flow
from cli.options import Json, Set, SettingsFile, flags_of
from cli.screen import number, percent, put, put_json, put_table


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

    Example: precept respond --set prompts=prompts.jsonl
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    result = run_flow("respond", settings, flags, quiet, verbose)
    put_json(result) if as_json else put(f"{result['answers']} answers are in the store, run {result['run'][:12]}")


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

    Example: precept revise --set revise.rounds=2
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    result = run_flow("revise", settings, flags, quiet, verbose)
    if as_json:
        put_json(result)
        return
    made = result["revisions"]
    put(f"{made['chains']} chains, {made['kept']} revisions kept, run {result['run'][:12]}")
    for reason in sorted(made.keys() - {"chains", "kept"}):
        put(f"  dropped, {reason}: {made[reason]}")
    put(f"the judge finds {result['better']} of {result['judged']} revisions better than the answer they began from")


def judge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Pairs or human preferences, .jsonl or .parquet.")],
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

    Example: precept judge pairs.jsonl --json
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost) | {"pairs": str(file)}
    result = run_flow("judge", settings, flags, quiet, verbose)
    put_json(result) if as_json else _show_labels(result)


def _show_labels(result: dict[str, Any]) -> None:
    labels = result["labels"]
    put(
        f"{labels['count']} pairs: {labels['decided']} decided, {labels['tied']} tied, "
        f"{labels['unreadable']} unreadable, run {result['run'][:12]}"
    )
    agreed = result["agrees_with_file"]
    if agreed:
        put(
            f"agrees with the file on {percent(agreed['mean'])} of the decided "
            f"(95% interval {percent(agreed['low'])} to {percent(agreed['high'])})"
        )
    rows = [(name, percent(c["consistent"]), str(c["readable"])) for name, c in result["consistency"].items()]
    put_table(("principle", "both orders agree", "pairs read"), rows, right=("both orders agree", "pairs read"))


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a checkpoint's id, or promoted.")],
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model against the policy on held-out prompts, by the evaluator; nothing is trained or promoted.

    Example: precept evaluate promoted
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost) | {"evaluate.candidate": model}
    result = run_flow("evaluate", settings, flags, quiet, verbose)
    if as_json:
        put_json(result)
        return
    win = result["win_rate"]
    put(
        f"win rate against the policy {percent(win['mean'])} (95% interval {percent(win['low'])} to "
        f"{percent(win['high'])}), length-controlled {percent(result['length_controlled'])}"
    )
    before, after = result["before"], result["after"]
    rows = [(name, number(before[name], 3), number(after[name], 3)) for name in before if before[name] is not None]
    put_table(("on held-out prompts", "policy", "model"), rows, right=("policy", "model"))
