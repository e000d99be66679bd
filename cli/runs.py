"""`precept run`: what was run, what came of it, its report, going on with it, and two runs side by side."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completing, results
from cli.options import (
    Json,
    MaxCalls,
    MaxCost,
    MaxTokens,
    Quiet,
    Set,
    SettingsFile,
    Verbose,
    flags_of,
    limits,
    load,
    project,
    store_of,
)
from cli.screen import put, put_json, put_table, tell, took
from cli.start import run_flow
from pipeline.metrics import words

if TYPE_CHECKING:
    from service.queries.run_compare import RunsCompared
    from service.queries.runs import Summary

LOOPS = ("improve", "retrain")  # flows whose results are shown as before and after
SHORT = 80  # characters of what stopped a run, in a list
app = typer.Typer(no_args_is_help=True, help="Runs: list them, show one, go on with one, compare two.")
BY_ID = "A run, by the first digits of its id."
Id = Annotated[str, typer.Argument(metavar="ID", help=BY_ID, autocompletion=completing.runs)]


@app.command("list")
def list_(settings: SettingsFile = None, as_json: Json = False) -> None:
    """All runs of the store, the newest first: outcome, duration, constitution and win rate.

    Example: precept run list --json
    """
    from service.queries import runs

    with store_of(load(settings)) as store:
        found = runs.runs(store)
    if as_json:
        put_json([run.as_dict() for run in found])
        return
    columns = ("run", "flow", "status", "begun (UTC)", "took", "constitution", "win rate", "outcome")
    put_table(columns, [_row(run) for run in found], right=("took", "win rate"))


@app.command()
def show(id: Id, settings: SettingsFile = None, as_json: Json = False) -> None:
    """One run: how it ended, with its result.

    Example: precept run show 3f2a
    """
    from service.queries import runs

    with store_of(load(settings)) as store:
        found = runs.show(store, id)
    if as_json:
        put_json(found.as_dict())
        return
    run = found.summary.run
    put(f"run {run.id.hex()}: {run.kind}, {run.status}")
    put(f"begun {run.created[:19]} UTC" + (f", ended {run.finished[:19]} UTC" if run.finished else ""))
    if run.constitution:
        put(f"constitution {run.constitution}")
    if run.error:
        put(run.error)
    put()
    rows = [(stage, str(count), str(found.reused[stage])) for stage, count in found.stages.items()]
    put_table(("stage", "records", "of which stored before"), rows)
    if run.result:
        put()
        if "win_rate" in run.result and "before" in run.result:
            results.show(run.result)
        else:
            put_json(run.result)
    if run.status in ("stopped", "failed"):
        put(f"go on with: precept run resume {run.id.hex()[:12]}")


@app.command()
def resume(
    id: Id,
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on with a run that stopped, with the settings and the constitution it began with.

    Limits, devices, batch sizes and where things are kept come from the settings of now.

    Example: precept run resume 3f2a --max-calls 100000
    """
    own = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    project(settings, own)  # a mistake in them is told before the long imports

    from service.actions.resume import resume

    found = resume(id, settings, own)
    run = found.run
    if run.status == "finished":
        tell(f"run {run.id.hex()[:12]} is finished; this is its result")
    result = run_flow(run.kind, settings, dict(found.flags), quiet, verbose)
    put_json(result) if as_json or run.kind not in LOOPS else results.show(result)


@app.command()
def report(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help=f"{BY_ID} The newest with a report.", autocompletion=completing.runs)
    ] = "",
    open_: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Print the path of a run's report, one HTML file that opens from disk.

    Example: precept run report --open
    """
    from service.queries import runs

    with store_of(load(settings)) as store:
        path = runs.report(store, run)
    put(str(path))
    if open_:
        webbrowser.open(path.resolve().as_uri())


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=BY_ID, autocompletion=completing.runs)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other.", autocompletion=completing.runs)],
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Two runs side by side: the settings in which they differ, their figures, win rates and labels.

    Example: precept run compare 3f2a 91bc
    """
    from service.queries import run_compare

    with store_of(load(settings)) as store:
        found = run_compare.compare(store, a, b)
    put_json(found.as_dict()) if as_json else _show_compared(found)


# --- what is printed ---------------------------------------------------------------------------------------------


def _row(of: Summary) -> tuple[str, ...]:
    run = of.run
    begun = (run.id.hex()[:12], run.kind, run.status, run.created[:19])
    return (*begun, _took(of.seconds), (run.constitution or "-")[:12], words.number(of.mean), _short(of.outcome))


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else took(seconds)


def _show_compared(found: RunsCompared) -> None:
    a, b = found.a, found.b
    columns = (a.run.id.hex()[:12], b.run.id.hex()[:12])
    rows = [
        ("flow", a.run.kind, b.run.kind), ("status", a.run.status, b.run.status),
        ("outcome", _short(a.outcome), _short(b.outcome)), ("took", _took(a.seconds), _took(b.seconds)),
        ("win rate", *(_interval(of) for of in (a, b))),
    ]  # fmt: skip
    put_table(("run", *columns), rows)
    if found.paired is not None:
        put(str(found.paired))
    put()
    if found.settings:
        put_table(("setting", *columns), [(x.name, _said(x.a), _said(x.b)) for x in found.settings])
    else:
        put("no setting differs")
    for title, these in (("on held-out prompts", found.figures), ("labels", found.labels)):
        if these:
            put()
            put_table((title, *columns), [(x.name, _said(x.a), _said(x.b)) for x in these], right=columns)


def _interval(of: Summary) -> str:
    win = of.win_rate
    if win is None or win["mean"] is None:
        return "-"
    return f"{words.number(win['mean'])} ({words.number(win['low'])} to {words.number(win['high'])})"


def _said(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
