"""`precept constitution lint`: what stored verdicts and wordings say against a constitution.

No model is loaded or asked, but with `--ask`, which puts each question and its twin to the judge.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Quiet, RunId, Set, SettingsFile, flags_of, project
from cli.screen import console, number, percent, put, put_json, put_table, tell
from cli.start import STOPPED

if TYPE_CHECKING:
    from pipeline.metrics.lint import Figures
    from service.queries.lint import Linted
    from service.wiring import Wiring
    from service.work.wordings import Wordings

SHORT = 70  # characters of a prompt
Name = Annotated[str, typer.Argument(metavar="[FILE|REV]", help="A file, or an amendment; the settings' file.")]


def lint(
    name: Name = "",
    run: RunId = "",
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask the judge each question turned round, on the examples: does it read it?")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when there is a warning.")] = False,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which principles are redundant, contradict others, decide nothing, or are answered by the order of answers.

    From verdicts in the store, on the pairs that labels are made of, and from the wordings: nothing is asked. With
    --ask the judge answers each question and its twin, the question turned round, on the principles' examples.

    Example: precept constitution lint principles.yaml --ask
    """
    from service.queries import lint
    from service.wiring import Wiring

    with closing(Wiring(project(settings, flags_of(set_)))) as wiring:
        found = lint.lint(wiring, name, run)
        asked = _asked(wiring, found, quiet) if ask else None
    findings = [*found.findings, *(asked.findings if asked else ())]
    if as_json:
        more = {"asked": {**asked.as_dict(), "findings": [f.as_dict() for f in asked.findings]}} if asked else {}
        put_json({**found.as_dict(), **more})
    else:
        _show(found, asked)
    if strict and any(finding.severity == "warning" for finding in findings):
        raise typer.Exit(1)


def _asked(wiring: Wiring, found: Linted, quiet: bool) -> Wordings:
    from cli.progress import Reporter
    from service.settings import process_user
    from service.work import wordings
    from service.work.budget import BudgetReached

    try:
        return wordings.ask(wiring, found.constitution, who=process_user(), report=Reporter(quiet))
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None


# --- on the screen -------------------------------------------------------------------------------------------------


def _show(found: Linted, asked: Wordings | None = None) -> None:
    run = found.pool.run
    where = f"of run {run.id.hex()[:12]}" if run else "in the store"
    put(f"{found.constitution.name} ({found.constitution.version[:12]}) on {found.lint.comparisons:,} pairs {where}\n")
    if found.sampled:
        put("one principle is drawn for each label (compare.principles): each is judged on its share of the pairs, and")
        put("what is said of two together, and of flips, is about pairs on which both were asked\n")
    columns = ("principle", "weight", "judged", "votes on", "orders agree", "correlation", "flips when left out")
    if found.lint.figures:
        put_table(columns, [_row(f) for f in found.lint.figures], right=columns[1:])
        put()
    if asked and asked.figures:
        _show_twins(asked)
    for finding in [*found.findings, *(asked.findings if asked else ())]:
        put(f"{finding.severity}: {finding.kind}")
        put(_wrapped(finding.sentence))
        put(_wrapped(f"-> {finding.advice}"))
        for id in finding.comparisons:
            if id in found.shown:
                put(f"     {id.hex()[:12]}  {_short(found.shown[id])}")
    if not found.findings and not (asked and asked.findings):
        put("nothing was found")


def _show_twins(asked: Wordings) -> None:
    from pipeline.metrics.twins import shown

    columns = ("principle", "question right", "its twin right", "the same answer to both", "the wording is")
    rows = [
        (one.principle, shown(one.question), shown(one.twin), f"{one.same.count} of {one.same.of}", one.said)
        for one in asked.figures
    ]
    put_table(columns, rows, right=columns[1:4])
    put("\ntwins, whose better answer is the other one:")
    for one in asked.figures:
        put(_wrapped(f"{one.principle}: {one.twin_wording}{' (from the file)' if one.own else ''}"))
    put()


def _row(f: Figures) -> tuple[str, ...]:
    figures = (f"{f.weight / 1000:g}", f"{f.judged:,}", f"{f.bears:,}", percent(f.orders.same.value))
    return f.principle, *figures, number(f.orders.correlation, 2), f"{f.flips.count:,}"


def _wrapped(text: str) -> str:
    width = min(120, console().width if sys.stdout.isatty() else shutil.get_terminal_size((120, 24)).columns)
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")


def _short(text: str) -> str:
    """A prompt in one line, so that none can pass for lines of ours."""
    words = " ".join(text.split())
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."
