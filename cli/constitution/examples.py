"""`precept constitution test`: the examples of a constitution before the judge, like unit tests.

Exit codes: 0 where every example passes, 1 where one fails, 2 where there is nothing to test.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completing
from cli.constitution.example_text import in_full, short
from cli.options import Json, Quiet, Set, SettingsFile, flags_of, project
from cli.screen import put, put_json, put_table, tell
from cli.start import STOPPED

if TYPE_CHECKING:
    from service.work.examples import Examined


def test(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE] [ID]...",
            help="A file of principles; some of their ids.",
            autocompletion=completing.principles,
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="PATH", help="Write JUnit XML there.")] = None,
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask the judge about each principle's examples, in both orders, and say which it gets right.

    An example passes when both orders name `better`, surely enough to vote on a label. Nothing is asked twice. Exits
    with 1 where an example fails.

    Example: precept constitution test principles.yaml harmless --junit report.xml
    """
    file, ids = _split(names or [])
    flags = flags_of(set_) | ({"constitution": file} if file else {})
    loaded = project(settings, flags)

    from cli.progress import Reporter
    from service.settings import process_user
    from service.work.budget import BudgetReached
    from service.work.examples import examine

    try:
        examined = examine(loaded, ids, who=process_user(), report=Reporter(quiet))
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None
    if junit is not None:
        from cli.constitution.junit import junit as as_junit
        from storage.artifacts import write_bytes

        write_bytes(junit, as_junit(examined))
    put_json(examined.as_dict()) if as_json else _show(examined)
    if examined.failed:
        raise typer.Exit(1)


def _split(names: list[str]) -> tuple[str, list[str]]:
    """The file, if the first name is one, and the ids. What could be an id is one where no file is."""
    if names and (Path(names[0]).is_file() or not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", names[0])):
        return names[0], names[1:]
    return "", names


# --- on the screen -----------------------------------------------------------------------------------------------


def _show(examined: Examined) -> None:
    from pipeline.examples import reason, without_examples

    rows = [
        (
            "ok" if found.passed else "FAIL", found.case.principle.id, short(found),
            f"{found.shown_a:.3f}", f"{found.shown_b:.3f}", "" if found.passed else found.outcome,
        )
        for found in examined.results
    ]  # fmt: skip
    put_table(
        ("", "principle", "example", "better as A", "better as B", ""), rows, right=("better as A", "better as B")
    )
    for found in examined.failed:
        why = reason(found, examined.rule, examined.method)
        put(f"\nFAIL {found.case.principle.id}, example {found.case.number}: {why}")
        put(indent(in_full(found, examined.method), "  "))
    put()
    untested = without_examples(examined.constitution)
    if untested:
        put(f"without an example: {', '.join(untested)}")
    count = len(examined.results)
    passed = count - len(examined.failed)
    put(
        f"{passed} of {count} examples pass; {len(examined.asked)} verdicts asked for, "
        f"{examined.stored_before} stored before"
    )
