"""Running a flow from a terminal, to its result: what is told when it stops, and how to go on with it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli import process
from cli.options import NO_PROJECT, load, store_of
from cli.screen import tell
from constitution.errors import UserError

if TYPE_CHECKING:
    from service.settings import Settings

STOPPED = 3  # the exit code of a run that reached a limit, or whose training went wrong


def run_flow(name: str, file: Path | None, flags: dict[str, Any], quiet: bool, verbose: bool) -> Any:
    """Run a flow to its result. A run that stops, or is stopped, says how to go on with it."""
    from service import settings as settings_module

    settings = load(file, flags)  # a mistake in it is told before the long imports
    judges = name == "judge" and (settings.judge.model or settings.judge.base_url)
    if not (settings.policy.model or settings.prompts or judges):  # before a store is made where there is no project
        raise UserError(NO_PROJECT)
    settings_module.prepare_process(settings)
    _preflight(name, settings)  # and what else can be known, before Prefect's
    from flows.environment import quiet_prefect

    if not verbose:
        quiet_prefect()

    from cli.progress import Reporter
    from flows import discovery
    from pipeline.trainers.trainer import TrainingStopped
    from service.work.budget import BudgetReached

    try:
        return discovery.run(name, file, flags, who=settings_module.process_user(), report=Reporter(quiet))
    except KeyboardInterrupt:
        process.signals.told = True
        tell(f"interrupted: what was answered is kept; go on with: {_go_on(file, flags)}")
        raise
    except BudgetReached as stop:
        tell(f"{stop}; go on with: {_go_on(file, flags)} --max-calls N")
    except TrainingStopped as stop:
        tell(f"training was stopped: {stop}\nthe last good state is kept; change its arguments and run again")
    raise typer.Exit(STOPPED)


def _preflight(name: str, settings: Settings) -> None:
    from service import preflight
    from service.queries.base_run import wire

    with closing(wire(name, settings)) as wiring:
        preflight.check(name, wiring)


def _go_on(file: Path | None, flags: dict[str, Any]) -> str:
    """The command that goes on with the run that was stopped last."""
    from service.queries.runs import stopped_last

    with store_of(load(file, flags)) as store:
        last = stopped_last(store)
    return "the same command" if last is None else f"precept run resume {last.id.hex()[:12]}"
