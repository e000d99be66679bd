"""`precept constitution lint`: what stored verdicts say against a constitution. No model is loaded or asked."""

from __future__ import annotations

import shutil
import textwrap
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, RunId, Set, SettingsFile, flags_of, project
from cli.screen import number, percent, put, put_json, put_table

if TYPE_CHECKING:
    from pipeline.metrics.lint import Figures
    from service.queries.lint import Linted

SHORT = 70  # characters of a prompt
Name = Annotated[str, typer.Argument(metavar="[FILE|REV]", help="A file, or an amendment; the settings' file.")]


def lint(
    name: Name = "",
    run: RunId = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when there is a warning.")] = False,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Say which principles are redundant, contradict others, decide nothing, or are answered by the order of answers.

    All of it from verdicts in the store, on the pairs that labels are made of; nothing is asked.

    Example: precept constitution lint principles.yaml --strict
    """
    from service.queries import lint
    from service.wiring import Wiring

    with closing(Wiring(project(settings, flags_of(set_)))) as wiring:
        found = lint.lint(wiring, name, run)
    put_json(found.as_dict()) if as_json else _show(found)
    if strict and any(finding.severity == "warning" for finding in found.findings):
        raise typer.Exit(1)


# --- on the screen -------------------------------------------------------------------------------------------------


def _show(found: Linted) -> None:
    run = found.pool.run
    where = f"of run {run.id.hex()[:12]}" if run else "in the store"
    put(f"{found.constitution.name} ({found.constitution.version[:12]}) on {found.lint.comparisons:,} pairs {where}\n")
    columns = ("principle", "weight", "judged", "votes on", "orders agree", "correlation", "flips when left out")
    if found.lint.figures:
        put_table(columns, [_row(f) for f in found.lint.figures], right=columns[1:])
        put()
    for finding in found.findings:
        put(f"{finding.severity}: {finding.kind}")
        put(_wrapped(finding.sentence))
        put(_wrapped(f"-> {finding.advice}"))
        for id in finding.comparisons:
            if id in found.shown:
                put(f"     {id.hex()[:12]}  {_short(found.shown[id])}")
    if not found.findings:
        put("nothing was found")


def _row(f: Figures) -> tuple[str, ...]:
    figures = (f"{f.weight / 1000:g}", f"{f.judged:,}", f"{f.bears:,}", percent(f.orders.same.value))
    return f.principle, *figures, number(f.orders.correlation, 2), f"{f.flips.count:,}"


def _wrapped(text: str) -> str:
    width = min(120, shutil.get_terminal_size((120, 24)).columns)
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")


def _short(text: str) -> str:
    """A prompt in one line, so that none can pass for lines of ours."""
    words = " ".join(text.split())
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."
