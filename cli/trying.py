"""`precept judge trial`: is the judge right, on pairs whose better answer is known?

Exit codes: 0 where it is trusted to label, 1 where it is not, 2 where there is nothing to try it on, or it cannot be
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import (
    Json,
    MaxCalls,
    MaxCost,
    MaxTokens,
    Quiet,
    Set,
    SettingsFile,
    flags_of,
    limits,
    project,
)
from cli.screen import put, put_json, put_prose, put_table, tell
from cli.start import STOPPED
from constitution.errors import UserError
from pipeline.metrics import words

if TYPE_CHECKING:
    from pipeline.metrics.intervals import Share
    from pipeline.metrics.trial import Figures
    from service.work.choosing import Chosen
    from service.work.trying import Held

NAMED = 3  # bad rows that are named on the screen; `--json` has all
RIGHT = ("right", "prompts", "orders agree", "first", "longer", "shorter", "ECE")


def trial(
    pairs: Annotated[
        list[Path] | None,
        typer.Option("--pairs", metavar="FILE", help="Known pairs besides (docs/data.md); repeatable."),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Their format, as llmbar; what each row looks like.")
    ] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows of --pairs or --recorded that cannot be used.")
    ] = False,
    evaluator: Annotated[bool, typer.Option("--evaluator", help="Try the evaluator, not the judge.")] = False,
    attacks: Annotated[
        bool, typer.Option("--attacks", help="Attack it in the judged text, too, where it is right.")
    ] = False,
    prefixes: Annotated[
        bool, typer.Option("--prefixes", help="Choose the beginning of its answer on half of them, try it on the rest.")
    ] = False,
    recorded: Annotated[
        Path | None,
        typer.Option("--recorded", metavar="FILE", help="Somebody else's verdicts; no model is asked (docs/trial.md)."),
    ] = None,
    reward: Annotated[
        str, typer.Option("--reward", metavar="MODEL", help="A reward model, to stand beside it in the table.")
    ] = "",
    most: Annotated[
        int | None, typer.Option("--most", min=1, help="Pairs that are asked, of each principle; trial.most.")
    ] = None,
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask the judge about pairs whose better answer is known, in both orders, and say whether it is to be trusted.

    The pairs are the principles' examples, those of trial.pairs, and those of --pairs. Nothing is asked twice. Exits
    with 1 where the judge is not trusted.

    Example: precept judge trial --pairs pairs.jsonl --attacks
    """
    if recorded is not None:
        _refuse_beside_recorded(
            {
                "--pairs": pairs, "--evaluator": evaluator, "--attacks": attacks, "--prefixes": prefixes,
                "--reward": reward, "--most": most, "--settings": settings, "--set": set_,
                "--max-calls": max_calls is not None, "--max-tokens": max_tokens is not None,
                "--max-cost": max_cost is not None,
            }
        )  # fmt: skip
        held = _recorded(recorded, format, skip_bad)
    else:
        flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost) | ({"trial.most": most} if most else {})
        held = _held(
            settings, flags, quiet, evaluator, pairs or [], format, skip_bad, reward, attacks, prefixes
        )  # fmt: skip
    put_json(held.as_dict()) if as_json else _show(held)
    if not held.trial.believed:
        raise typer.Exit(1)


def _refuse_beside_recorded(given: Mapping[str, object]) -> None:
    """Raise UserError for options that only a judge that is asked has a use for."""
    if named := [name for name, value in given.items() if value]:
        raise UserError(
            f"--recorded asks no model and reads no settings, so {' and '.join(named)} would do nothing beside it: "
            "leave that out, or --recorded"
        )


def _recorded(path: Path, format: str, skip_bad: bool) -> Held:
    from service.work.trying import hold_recorded

    return hold_recorded(path, format, skip_bad=skip_bad)


def _held(
    settings: Path | None,
    flags: dict[str, object],
    quiet: bool,
    evaluator: bool,
    pairs: list[Path],
    format: str,
    skip_bad: bool,
    reward: str,
    attacks: bool,
    prefixes: bool,
) -> Held:
    loaded = project(settings, flags)

    from cli.progress import Reporter
    from service.settings import process_user
    from service.work.budget import BudgetReached
    from service.work.trying import hold

    try:
        return hold(
            loaded, who=process_user(), report=Reporter(quiet), role="evaluator" if evaluator else "judge",
            pairs=pairs, format=format, skip_bad=skip_bad, reward=reward, attacked=attacks, prefixes=prefixes,
        )  # fmt: skip
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None


# --- on the screen -----------------------------------------------------------------------------------------------


def _show(held: Held) -> None:
    from pipeline.attacks import described
    from pipeline.trial import sentences

    found = held.trial
    rows = [("in all", found.in_all.word, *_cells(found.in_all.figures))]
    rows += [(name, tally.word, *_cells(tally.figures)) for name, tally in found.by_principle.items()]
    put_table((held.role, "", *RIGHT), rows, right=RIGHT)
    put()
    if found.others:
        rows = [(name, "", *_cells(figures)) for name, figures in found.others.items()]
        put_table(("on the same pairs", "", *RIGHT), rows, right=RIGHT)
        put()
    if len(found.by_source) > 1:
        rows = [(name, _right(group.as_dict()), str(group.pairs)) for name, group in found.by_source.items()]
        put_table(("pairs of", "right", "pairs"), rows, right=("right", "pairs"))
        put()
    if held.fooled:
        rows = [
            (name, f"{s.count} of {s.of}", _interval(s), described(name))
            for name, s in sorted(held.fooled.items(), key=lambda x: -x[1].count)
        ]
        head = ("attack", "fooled, of pairs", "95% interval", "what stands in the worse answer's place")
        put_table(head, rows, right=head[1:3])
        put()
    if held.prefix is not None:
        _show_prefixes(held.role, held.prefix)
    for line in sentences(found, held.role):
        put_prose(line)
    if not found.believed:
        _show_next(held)
    _small_print(held)


def _show_next(held: Held) -> None:
    """What follows for a run from a judge that is not believed, and what to do."""
    from pipeline.trial import next_step

    if held.role == "judge":
        put_prose(
            "a run stops at its trial: what it says makes no labels "
            '(trial.required = false goes on nevertheless, "checks" by what code checks)'
        )
    elif held.role == "evaluator":
        put_prose("no model is promoted on its word (trial.required = false goes on nevertheless)")
    put_prose(f"next: {next_step(held.trial, held.role)}")


def _show_prefixes(role: str, found: Chosen) -> None:
    """What each beginning was right on in one half of the pairs, and the best of them in the other."""
    rows = [(repr(name), _right(group.as_dict())) for name, group in found.tried.items()]
    put_table(("its answer begins with", "right on one half"), rows, right=("right on one half",))
    gain, low, high = (100 * x for x in (found.gain.mean, found.gain.low, found.gain.high))
    put_prose(
        f"on the other half {found.prefix!r} is right on {_right(found.chosen.as_dict())}, and what is set now on "
        f"{_right(found.now.as_dict())}: {gain:+.1f} points ({low:+.1f} to {high:+.1f})"
        + (f'; set {role}.answer_prefix = "{found.prefix}"' if found.better else "; that is not shown to be better")
    )
    put()


def _small_print(held: Held) -> None:
    """What was not asked, what was set aside, and what it cost."""
    figures = held.trial.in_all.figures
    if figures.unreadable or figures.abstained or figures.tied:
        put_prose(
            f"of {figures.asked} pairs {figures.unreadable} unreadable, {figures.abstained} whose principle does not "
            f"apply (they count for nothing here), {figures.tied} tied"
        )
    if figures.wrong_user.pairs:
        put_prose(f"where a person is wrong and the worse answer agrees: {_right(figures.wrong_user.as_dict())}")
    if figures.own_better.pairs and figures.own_worse.pairs:
        own, others = (_right(g.as_dict()) for g in (figures.own_better, figures.own_worse))
        put_prose(f"where its own model wrote the better answer: {own}; where it wrote the worse: {others}")
    if held.bad:
        put_prose(
            f"left out, {len(held.bad)} bad rows: {'; '.join(held.bad[:NAMED])}" + (", ..." if held.bad[NAMED:] else "")
        )
    if held.strange:
        put_prose(f"left out, of principles that the constitution has not: {', '.join(held.strange)}")
    if held.opposed:
        fate = "were not asked" if held.judge else "count for nothing"
        put_prose(f"{held.opposed} pairs are given both ways round, and {fate}")
    if held.unasked:
        some = ", ".join(f"{count} of {name}" for name, count in held.unasked.items())
        put_prose(f"{sum(held.unasked.values())} pairs more were not asked: {some}; --most N asks more")
    if held.judge:
        put_prose(f"{held.calls} requests and {held.tokens} tokens now, in {held.seconds:.1f} s")


def _cells(figures: Figures) -> tuple[str, ...]:
    told = figures.as_dict()
    prompts, agree, first = str(told["prompts"]), str(figures.consistent), str(figures.first)
    longer, shorter = (_share(group.as_dict()["accuracy"]) for group in (figures.longer, figures.not_longer))
    return _right(told), prompts, agree, first, longer, shorter, "-" if figures.ece is None else f"{figures.ece:.2f}"


def _right(told: dict[str, float]) -> str:
    if told["accuracy"] is None:
        return "-"
    share, low, high = (words.percent(told[name], 0) for name in ("accuracy", "low", "high"))
    return f"{share} ({low} to {high})"


def _interval(share: Share) -> str:
    return f"{words.percent(share.low, 0)} to {words.percent(share.high, 0)}" if share.of else "-"


def _share(value: float | None) -> str:
    return "-" if value is None else words.percent(value, 0)
