"""`precept constitution amend --try`: today's answers beside the draft's, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.screen import console, put, put_json, tell
from cli.start import STOPPED
from cli.text import literal

if TYPE_CHECKING:
    from rich.console import Console

    from constitution.records import Generation
    from service.settings import Settings
    from service.work.draft_answers import Beside, TriedOut

SIDE_BY_SIDE = 100  # columns of a screen on which two answers are read beside each other


def show_tried(settings: Settings, file: Path, count: int, as_json: bool, quiet: bool) -> None:
    from cli.progress import Reporter
    from constitution import loading
    from service.settings import process_user
    from service.work.budget import BudgetReached
    from service.work.draft_answers import try_out

    draft = loading.load(file)
    try:
        found = try_out(settings, draft, count, who=process_user(), report=Reporter(quiet))
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None
    put_json(found.as_dict()) if as_json else _show(found, file)


def _show(found: TriedOut, file: Path) -> None:
    screen = console()
    today = f"constitution {found.inforce[:12]}, in force" if found.inforce else "no constitution: none is in force"
    put(f"{found.model}, with a constitution in its system prompt; nothing is trained or ratified")
    put(f"  today: {today}")
    put(f"  draft: constitution {found.draft.version[:12]}, {file}")
    for number, one in enumerate(found.answers, 1):
        put()
        _beside(screen, number, one)
    put()
    count = len(found.answers)
    alike = f"{found.same} of {count} answers are the same." if found.same else f"The {count} answers differ."
    put(f"{alike if count > 1 else ''} Told is not trained: training may reach what this shows, or miss it.".strip())
    put(f"Which labels the draft would turn: precept constitution amend {file} --sample 20")


def _beside(screen: Console, number: int, one: Beside) -> None:
    from rich.padding import Padding
    from rich.table import Table

    screen.print(literal(f"{number}  {_asked(one)}", "bold"))
    sides: list[tuple[str, Generation | None]] = [("today", one.today), ("draft", one.draft)]
    if one.today is not None and one.draft is not None and one.today.text == one.draft.text:
        screen.print(Padding(literal("both say the same", "dim"), (0, 0, 0, 3)))
        sides = [("both", one.today)]
    if screen.width >= SIDE_BY_SIDE and len(sides) == 2:
        table = Table.grid(padding=(0, 2), expand=True)
        for _ in sides:
            table.add_column(ratio=1)
        table.add_row(*(literal(name, "dim") for name, _ in sides))
        table.add_row(*(literal(_said(made)) for _, made in sides))
        screen.print(Padding(table, (0, 0, 0, 3)))
        return
    for name, made in sides:
        screen.print(Padding(literal(name, "dim"), (0, 0, 0, 3)))
        screen.print(Padding(literal(_said(made)), (0, 0, 0, 5)))


def _asked(one: Beside) -> str:
    turns = [m for m in one.prompt if m.role != "system"]
    before = f"(after {len(turns) - 1} turns) " if len(turns) > 1 else ""
    return before + " ".join(turns[-1].content.split())


def _said(made: Generation | None) -> str:
    if made is None:
        return "(left out: the engine refused the request, as too long for it or otherwise)"
    cut = " [cut at max_tokens]" if made.finish_reason == "length" else ""
    return (made.text.strip() or "(an empty answer)") + cut
