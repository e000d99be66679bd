"""`precept constitution stress`: prompts that force two principles apart, and who wins."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completing
from cli.options import Json, Quiet, Set, SettingsFile, flags_of, project
from cli.screen import console, put, put_json, put_table, tell
from cli.start import STOPPED

if TYPE_CHECKING:
    from service.work.stress import Forced, Shown, Stressed

SHORT = 160  # characters of a prompt or an answer


def stress(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="The principles; every pair of them. All.", autocompletion=completing.principles
        ),
    ] = None,
    count: Annotated[int, typer.Option("--n", metavar="N", min=1, help="How many prompts are made for a pair.")] = 3,
    most: Annotated[
        int, typer.Option("--most", metavar="N", min=1, help="Pairs of principles, those undecided first.")
    ] = 6,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Force principles apart: prompts made by the model, answered twice and judged, and which one the file lets win.

    The critic (else the policy) makes the prompts; where it cannot, stored pairs on which the two part are looked at.
    Nothing is labelled or trained.

    Example: precept constitution stress harmless willing --n 5
    """
    loaded = project(settings, flags_of(set_))
    from cli.progress import Reporter
    from service.settings import process_user
    from service.work.budget import BudgetReached
    from service.work.stress import force

    try:
        found = force(loaded, ids or [], count, most, who=process_user(), report=Reporter(quiet))
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None
    put_json(found.as_dict()) if as_json else _show(found)


def _show(found: Stressed) -> None:
    put(f"{found.constitution.name} ({found.constitution.version[:12]}), prompts by {found.maker}\n")
    columns = (
        "principles",
        "prompts",
        "judged",
        "both vote",
        "they part",
        "to the first",
        "to the other",
        "to neither",
    )
    put_table(columns, [_row(pair) for pair in found.pairs], right=columns[1:])
    for pair in found.pairs:
        put()
        _show_pair(pair)
    put()
    if found.undecided:
        names = "; ".join(f"{pair.one.id} and {pair.other.id}" for pair in found.undecided)
        put(_wrapped(f"the file does not decide between: {names}", ""))
        put(
            _wrapped(
                "-> where they part, how sure the judge is decides: give one a higher `tier`, or more `weight`", ""
            )
        )
    else:
        put("the file decides between all of these")
    if len(found.pairs) < found.of:
        put(f"{len(found.pairs)} of {found.of} pairs of principles; --most {found.of} looks at all")


def _row(pair: Forced) -> tuple[str, ...]:
    o = pair.outcome
    prompts = "stored" if pair.stored else str(len(pair.made.texts))
    counts = (o.pairs, o.both, o.apart, o.one, o.other, o.neither)
    return (f"{pair.one.id}, {pair.other.id}", prompts, *(f"{count:,}" for count in counts))


def _show_pair(pair: Forced) -> None:
    put(f"{pair.one.id} and {pair.other.id}")
    wins = f"`{pair.precedence.wins}` wins" if pair.precedence.wins else "neither wins"
    put(_wrapped(f"the file: {wins}, {pair.precedence.words}"))
    dropped = f" (left out: {pair.made.why})" if pair.made.why else ""
    if pair.stored:
        put(_wrapped(_why_stored(pair, dropped)))
    elif pair.made.why:
        put(_wrapped(f"{len(pair.made.texts)} prompts of {pair.asked} tries{dropped}"))
    if not pair.outcome.pairs:
        put(_wrapped("no pair of answers is judged under both, so nothing is known of where they part"))
    elif not pair.outcome.both:
        put(_wrapped("the judge votes on none of them under both, so nothing is known of where they part"))
        if not pair.stored:
            put(_wrapped("read the prompts: what a small model makes is often no prompt, whatever it looks like"))
    for _, text in pair.made.texts if not pair.shown else ():
        put(_wrapped(f"asked: {_short(text)}"))
    for one in pair.shown:
        _show_answers(pair, one)


def _why_stored(pair: Forced, dropped: str) -> str:
    made = len(pair.made.texts)
    what = f"the model's {made} prompts were each answered twice alike" if made else "the model made no prompt of use"
    return f"{what}, in {pair.asked} tries{dropped}; so these are the stored pairs"


def _show_answers(pair: Forced, one: Shown) -> None:
    put(_wrapped(f"asked: {_short(one.prompt)}"))
    for name, text in (("first", one.first), ("second", one.second)):
        likes = pair.one.id if one.one == name else pair.other.id
        mark = " <- wins" if likes == one.wins else ""
        put(_wrapped(f"{likes} prefers: {_short(text)}{mark}", "    "))
    if not one.wins:
        put(_wrapped("together they leave it tied", "    "))


def _wrapped(text: str, indent: str = "  ") -> str:
    width = min(120, console().width if sys.stdout.isatty() else shutil.get_terminal_size((120, 24)).columns)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent + "  ")


def _short(text: str) -> str:
    """A text in one line, so that none can pass for lines of ours."""
    words = " ".join(text.split())
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."
