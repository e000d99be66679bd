"""`precept constitution attribute`: what each principle does to labels. No model is loaded or asked."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, RunId, Set, SettingsFile, flags_of, project
from cli.screen import bar, console, put_json, put_prose, put_table, tell
from cli.text import in_words
from constitution.errors import UserError
from pipeline.metrics import words

if TYPE_CHECKING:
    from fractions import Fraction

    from constitution.principles import Constitution
    from pipeline.metrics.attribution import Flips, Part
    from pipeline.metrics.intervals import Interval
    from service.queries.attribution import Explained, LeftOut, WinRates
    from service.wiring import Wiring

CHANGES = {  # columns of the table of flips: from which outcomes to which
    "to the other answer": (("first", "second"), ("second", "first")),
    "to a tie": (("first", "tied"), ("second", "tied")),
    "out of a tie": (("tied", "first"), ("tied", "second")),
}


def attribute(
    comparison: Annotated[str, typer.Argument(metavar="[COMPARISON]", help="First digits of a comparison's id.")] = "",
    constitution: Annotated[
        str, typer.Option("--constitution", metavar="FILE|REV", help="A file, or an amendment; the settings' file.")
    ] = "",
    run: RunId = "",
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """How much each principle moved one label; without one, labels and the win rate with each principle left out.

    Example: precept constitution attribute 3f9a12
    """
    from service.queries import attribution, revisions
    from service.wiring import Wiring

    with closing(Wiring(project(settings, flags_of(set_)))) as wiring:
        under = revisions.read(constitution, wiring.store) if constitution else wiring.constitution
        if comparison:
            explained = attribution.explain(wiring, under, comparison, run)
            put_json(explained.as_dict()) if as_json else _show_one(explained)
            return
        labels = attribution.labels(wiring, under, run)
        rates, why = _rates(wiring, under, run)
    if as_json:
        whole = {"constitution": under.name, "version": under.version, "labels": labels.as_dict()}
        put_json({**whole, "win_rate": rates.as_dict() if rates else None})
    else:
        _show_labels(under, labels)
        if rates:
            _show_rates(rates)
    if why:
        tell(why)


def _rates(wiring: Wiring, constitution: Constitution, run: str) -> tuple[WinRates | None, str]:
    """The win rates, or why there are none: labels can be had without them."""
    from service.queries import attribution

    try:
        return attribution.win_rate(wiring, constitution, run), ""
    except UserError as error:
        return None, f"no win rate: {error}"


# --- one label on the screen ---------------------------------------------------------------------------------------


def _show_one(found: Explained) -> None:
    from rich.panel import Panel

    from cli.text import literal

    screen = console()
    pair, label = found.pair, found.account.label
    screen.print(literal("\n\n".join(f"{m.role}: {m.content}" for m in pair.messages)))
    for name, text in (("first", pair.first), ("second", pair.second)):
        screen.print(Panel(literal(text), title=name, title_align="left"))
    whose = "the evaluator's" if found.evaluation else "the judge's"
    said = {"first": "the first is better", "second": "the second is better"}.get(found.account.outcome, label.state)
    put_prose(f"{label.comparison.hex()}, {whose} label: {said}; p of the first is {label.p / 10**9:.6f}\n")
    parts = sorted(found.account.parts, key=lambda part: -abs(part.moved))
    widest = max((abs(part.moved) for part in parts), default=0)
    columns = ("principle", "weight", "says", "moves p by", "second | first", "without it")
    put_table(columns, [_part(part, widest) for part in parts], right=("weight", "moves p by"))


def _part(part: Part, widest: Fraction | int) -> tuple[str, ...]:
    says = in_words(part.standing)
    if part.standing == "bears" and part.s is not None:
        side = "first" if part.s > 0 else "second" if part.s < 0 else "neither"
        says = f"{side} ({abs(part.s) / 10**9:.3f})"
    moved = f"{float(part.moved):+.6f}" if part.moved else "0"
    weight = f"{part.weight / 1000:g}" + (", hard" if part.hard else f", tier {part.tier}" if part.tier else "")
    return part.principle, weight, says, moved, bar(part.moved, widest), part.without


# --- tables on the screen ------------------------------------------------------------------------------------------


def _show_labels(constitution: Constitution, labels: LeftOut) -> None:
    where = f"of run {labels.run.id.hex()[:12]}" if labels.run else "in the store"
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in labels.outcomes.items())
    put_prose(f"{constitution.name} ({constitution.version[:12]}), labels {where}: {counts}")
    _show_not_judged(labels.not_judged)
    columns = ("left out", "labels that flip", *CHANGES, "can or cannot be read")
    if labels.principles:
        put_table(columns, [_flips_row(flips) for flips in labels.principles], right=columns[1:])


def _flips_row(flips: Flips) -> tuple[str, ...]:
    named = [sum(flips.changes.get(change, 0) for change in changes) for changes in CHANGES.values()]
    return flips.principle, f"{flips.count:,}", *(f"{n:,}" for n in named), f"{flips.count - sum(named):,}"


def _show_rates(rates: WinRates) -> None:
    put_prose(f"\nwin rate of run {rates.run.id.hex()[:12]} on {rates.prompts:,} prompts: {_interval(rates.win_rate)}")
    _show_not_judged(rates.not_judged)
    columns = ("left out", "win rate (95% interval)", "change (95% interval)")
    put_table(columns, [(r.principle, _interval(r.win_rate), _interval(r.change, sign="+")) for r in rates.principles])


def _show_not_judged(names: list[str]) -> None:
    if names:
        put_prose(f"not judged yet, and so no part of it: {', '.join(names)}")


def _interval(of: Interval, sign: str = "") -> str:
    if of.mean != of.mean:  # NaN: no pair could be read
        return "-"
    form = words.signed if sign else words.percent
    return f"{form(of.mean)} ({form(of.low)} to {form(of.high)})"
