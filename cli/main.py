"""`precept`: every command in its place, and what a failure looks like.

Exit codes: 0; 1 for a failure that is not yours; 2 for a mistake that you can mend; 3 for a run that stopped at a
limit of its settings, or because training went wrong; 130 for Ctrl-C, 143 for SIGTERM, 129 for a window that was
closed. Results go to standard output, all else to standard error. Nothing heavy is imported before a command runs, so
that `--help` is instant.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import (
    agreement,
    aliases,
    console,
    constitution,
    data,
    disagreements,
    doctor,
    engine,
    flow,
    improve,
    init,
    judging,
    models,
    process,
    retrain,
    review,
    runs,
    sandbox,
    schedule,
    score,
    settings,
    store,
    sweep,
    train,
)
from cli.tree import CONSTITUTION, DATA, FLOWS, MODELS, MORE, REVIEW, ByPanel, falling
from constitution.errors import UserError

app = typer.Typer(
    name="precept",
    cls=ByPanel,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would print local variables, and with them secrets
    help="Make a language model live by a file of principles, and prove that it does.\n\nBegin with: precept improve",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"precept {version('precept')}")
        raise typer.Exit


@app.callback()
def _precept(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What stands before a command."""


reviewing = typer.Typer(
    cls=falling("start", alone=True), help="People's answers: give them, and see how far they agree with the judge."
)
reviewing.command("start")(review.review)
reviewing.command("agreement")(agreement.agreement)
reviewing.command("disagreements")(disagreements.disagreements)

app.command("init", rich_help_panel=FLOWS)(init.init)
app.command("improve", rich_help_panel=FLOWS)(improve.improve)
app.command("retrain", rich_help_panel=FLOWS)(retrain.retrain)
app.add_typer(runs.app, name="run", rich_help_panel=FLOWS)
app.add_typer(schedule.app, name="schedule", rich_help_panel=FLOWS)
app.add_typer(constitution.app, name="constitution", rich_help_panel=CONSTITUTION)
app.add_typer(judging.app, name="judge", rich_help_panel=REVIEW)
app.add_typer(reviewing, name="review", rich_help_panel=REVIEW)
app.add_typer(console.app, name="console", rich_help_panel=REVIEW)
app.command("train", rich_help_panel=MODELS)(train.train)
app.command("sweep", rich_help_panel=MODELS)(sweep.sweep)
app.command("score", rich_help_panel=MODELS)(score.score)
app.add_typer(models.app, name="model", rich_help_panel=MODELS)
app.add_typer(engine.app, name="engine", rich_help_panel=MODELS)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(store.app, name="store", rich_help_panel=DATA)
app.add_typer(settings.app, name="settings", rich_help_panel=MORE)
app.command("doctor", rich_help_panel=MORE)(doctor.doctor)
app.command("flow", rich_help_panel=MORE)(flow.flow)
app.add_typer(sandbox.app, name="sandbox", rich_help_panel=MORE)
aliases.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. A failure that is a bug is raised."""
    try:
        code = app(list(arguments), prog_name="precept", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _fail(str(error), 2)
    except (BrokenPipeError, process.Unwritten) as error:  # for example, the reader was `head`
        return _unwritten(error)
    except Exception as error:
        if hasattr(error, "format_message"):  # a mistake in the command line, as Typer found it
            return _usage(error)
        if isinstance(error, typer.Abort):  # Ctrl-C or the end of the input at a question
            return _fail("nothing was done", 130)
        if type(error).__name__ == "TrainingKilled":
            return _fail(str(error), 1)
        if type(error).__name__ == "EngineError":
            return _fail(f"the model could not be reached: {error}\nwhat was answered is kept; run the same again", 1)
        raise


def entry() -> None:
    """The script `precept`."""
    process.prepare_streams()
    process.signals.install()
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()  # before the end is given a few seconds: a reader may take longer
    except process.Unwritten as error:
        code = _unwritten(error)
    except KeyboardInterrupt:
        code = process.signals.code
    except Exception:  # a bug
        traceback.print_exc()
        code = 1
    if process.signals.asked is not None:
        code = process.signals.code
        if not process.signals.told:
            _fail("interrupted", code)
    process.signals.leave(code)
    sys.exit(code)


def _unwritten(error: Exception) -> int:
    why = getattr(error, "why", "")
    return _fail(f"the result cannot be written to standard output ({why}); what was done is kept", 1) if why else 1


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    hint = f"\n{context.command_path} --help says how it is used" if context else ""
    return _fail(f"{error.format_message()}{hint}", 2)  # type: ignore[attr-defined]


def _fail(message: str, code: int) -> int:
    from cli.screen import told

    print(told(message), file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    entry()
