"""`precept`: every command in its place, and what a failure looks like.

Exit codes: 0; 1 for a failure that is not yours; 2 for a mistake that you can mend; 3 for a run that stopped at a
limit of its settings, or because training went wrong; 130 for Ctrl-C. Results go to standard output, all else to
standard error. Nothing heavy is imported before a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from console import (
    agreeing,
    amending,
    attributing,
    comparing,
    configuring,
    constitution,
    doctor,
    exporting,
    importing,
    improving,
    lineage,
    promoting,
    reporting,
    retraining,
    reviewing,
    running,
    sandbox,
    scheduling,
    scoring,
    starting,
    sweeping,
    training,
    verbs,
)
from constitution.errors import UserError

app = typer.Typer(
    name="precept",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables, and with them secrets
    help="Make a language model live by a file of principles, and prove that it does.\n\nBegin with: precept improve",
)

app.command("init")(starting.init)
app.command("improve")(improving.improve)
app.command("amend")(amending.amend)
app.command("retrain")(retraining.retrain)
app.command("flow")(improving.flow)
app.add_typer(running.app, name="run")
app.command("respond")(verbs.respond)
app.command("revise")(verbs.revise)
app.command("judge")(verbs.judge)
app.command("evaluate")(verbs.evaluate)
app.command("review")(reviewing.review)
app.command("agreement")(agreeing.agreement)
app.command("attribution")(attributing.attribution)
app.command("compare-constitutions")(comparing.compare_constitutions)
app.command("score")(scoring.score)
app.command("promote")(promoting.promote)
app.command("report")(reporting.report)
app.command("lineage")(lineage.lineage)
app.command("export")(exporting.export)
app.command("import")(importing.import_)
app.command("train")(training.train)
app.command("sweep")(sweeping.sweep)
app.command("schedule")(scheduling.schedule)
app.command("settings")(configuring.settings)
app.command("doctor")(doctor.doctor)
app.add_typer(constitution.app, name="constitution")
app.add_typer(sandbox.app, name="sandbox")


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. A failure that is a bug is raised."""
    try:
        code = app(list(arguments), prog_name="precept", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # the reader of our output went away, for example `head`
        sys.stderr.close()
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # a mistake in the command line, as Typer found it
            return _usage(error)
        if isinstance(error, typer.Abort):  # Ctrl-C or the end of the input at a question
            return _fail("nothing was done", 130)
        if type(error).__name__ == "EngineError":
            return _fail(f"the model could not be reached: {error}\nwhat was answered is kept; run the same again", 1)
        raise


def entry() -> None:
    """The script `precept`."""
    sys.exit(run(sys.argv[1:]))


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    hint = f"\n{context.command_path} --help says how it is used" if context else ""
    return _fail(f"{error.format_message()}{hint}", 2)  # type: ignore[attr-defined]


def _fail(message: str, code: int) -> int:
    from console.text import visible

    print(visible(message), file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    entry()
