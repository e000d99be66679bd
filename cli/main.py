"""`precept`: every command in its place, and what a failure looks like.

Exit codes: 0; 1 for a failure that is not yours; 2 for a mistake that you can mend; 3 for a run that stopped at a
limit of its settings, or because training went wrong; 130 for Ctrl-C. Results go to standard output, all else to
standard error. Nothing heavy is imported before a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from cli import (
    agreement,
    amend,
    attribute,
    compare,
    constitution,
    disagreements,
    doctor,
    exports,
    imports,
    improve,
    init,
    lineage,
    promote,
    report,
    retrain,
    review,
    runs,
    sandbox,
    schedule,
    score,
    settings,
    steps,
    sweep,
    train,
)
from constitution.errors import UserError

app = typer.Typer(
    name="precept",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables, and with them secrets
    help="Make a language model live by a file of principles, and prove that it does.\n\nBegin with: precept improve",
)

app.command("init")(init.init)
app.command("improve")(improve.improve)
app.command("amend")(amend.amend)
app.command("retrain")(retrain.retrain)
app.command("flow")(improve.flow)
app.add_typer(runs.app, name="run")
app.command("respond")(steps.respond)
app.command("revise")(steps.revise)
app.command("judge")(steps.judge)
app.command("evaluate")(steps.evaluate)
app.command("review")(review.review)
app.command("agreement")(agreement.agreement)
app.command("disagreements")(disagreements.disagreements)
app.command("attribution")(attribute.attribution)
app.command("compare-constitutions")(compare.compare_constitutions)
app.command("score")(score.score)
app.command("promote")(promote.promote)
app.command("report")(report.report)
app.command("lineage")(lineage.lineage)
app.command("export")(exports.export)
app.command("import")(imports.import_)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("schedule")(schedule.schedule)
app.command("settings")(settings.settings)
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
    from cli.text import visible

    print(visible(message), file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    entry()
