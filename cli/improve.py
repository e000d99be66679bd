"""`precept improve`, the whole loop, and `precept flow`, any flow by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, Set, SettingsFile, flags_of, load
from cli.screen import number, percent, put, put_json, put_table, tell

if TYPE_CHECKING:
    from service.queries.estimate import Estimate

MaxCalls = Annotated[int | None, typer.Option("--max-calls", min=0, help="Stop after so many model requests.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=0, help="Stop after so many tokens.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0, help="Stop when so much is spent.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Prefect's own log, too.")]

STOPPED = 3


def improve(
    settings: SettingsFile = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed is another run.")] = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Answer, label and train again, while it helps.")
    ] = None,
    slot: Annotated[str, typer.Option("--slot", help="A name that tells repeated runs apart.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be asked, and ask nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a model better by its constitution, and prove it: answer, revise, judge, train, measure, promote or refuse.

    Run again it goes on where it was; a finished run asks no model anything.

    Example: precept improve --seed 1 --max-calls 50000
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost)
    if seed is not None:
        flags["seed"] = seed
    if rounds is not None:
        flags["rounds"] = rounds
    if slot:
        flags["slot"] = slot
    if dry_run:
        _estimate(settings, flags, as_json)
        return
    result = run_flow("improve", settings, flags, quiet, verbose)
    put_json(result) if as_json else show(result)


def flow(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The flow; without one they are listed.")] = "",
    settings: SettingsFile = None,
    set_: Set = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run any flow of flows/ by its name and print its result as JSON.

    Example: precept flow revise --set revise.rounds=2
    """
    if not name:
        from flows.discovery import names

        for found in names():
            put(found)
        return
    put_json(run_flow(name, settings, flags_of(set_), quiet, verbose))


def limits(max_calls: int | None, max_tokens: int | None, max_cost: float | None) -> dict[str, Any]:
    given = {"limits.max_calls": max_calls, "limits.max_tokens": max_tokens, "limits.max_cost": max_cost}
    return {name: value for name, value in given.items() if value is not None}


def run_flow(name: str, file: Path | None, flags: dict[str, Any], quiet: bool, verbose: bool) -> Any:
    """Run a flow to its result. A run that stops, or is stopped, says how to go on with it."""
    from service import settings as settings_module

    settings = load(file, flags)  # a mistake in it is told before the long imports
    settings_module.prepare_process(settings)
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
        tell(f"interrupted: what was answered is kept; go on with: {_go_on(file, flags)}")
        raise
    except BudgetReached as stop:
        tell(f"{stop}; go on with: {_go_on(file, flags)} --max-calls N")
    except TrainingStopped as stop:
        tell(f"training was stopped: {stop}\nthe last good state is kept; change its arguments and run again")
    raise typer.Exit(STOPPED)


def _go_on(file: Path | None, flags: dict[str, Any]) -> str:
    """The command that goes on with the run that was stopped last."""
    from cli.options import store_of

    with store_of(load(file, flags)) as store:
        stopped = [run for run in store.runs() if run.status in ("stopped", "running")]
    if not stopped:
        return "the same command"
    last = max(stopped, key=lambda run: run.finished or run.created)
    return f"precept run resume {last.id.hex()[:12]}"


# --- what is printed ---------------------------------------------------------------------------------------------

ROWS = (
    ("good answers", "gold_good", percent),
    ("harmful answers", "gold_harmful", percent),
    ("needless refusals", "gold_needless_refusal", percent),
    ("malformed answers", "gold_malformed", percent),
    ("tokens an answer", "mean_tokens", lambda x: number(x, 1)),
)


def show(result: dict[str, Any]) -> None:
    """A run's result as people read it."""
    before, after, win = result["before"], result["after"], result["win_rate"]
    rows = [
        (name, form(before.get(key)), form(after.get(key)))
        for name, key, form in ROWS
        if before.get(key) is not None or after.get(key) is not None
    ]
    put_table(("on held-out prompts", "before", "after"), rows, right=("before", "after"))
    put()
    put(f"win rate     {number(win['mean'])} (95% interval {number(win['low'])} to {number(win['high'])})")
    judge, reward, labels = result["judge"], result["reward_model"], result["labels"]
    put(
        f"judge        consistent {percent(judge['position_consistency'])}, "
        f"unreadable {percent(judge['unreadable_rate'])}" + _truth(judge["gold_accuracy"])
    )
    put(
        f"labels       {labels['count']}, of which {labels['tied']} tied and {labels['unreadable']} unreadable"
        + _truth(labels["gold_accuracy"])
    )
    put(
        f"reward model right on {percent(reward['heldout_accuracy'])} of held-out labels, ECE {number(reward['ece'])}"
        + _truth(reward["gold_accuracy"])
    )
    calls, seconds = result["calls"], result["seconds"]
    put(
        f"calls        {calls['generated']} generated, {calls['chosen']} chosen, {calls['reused']} reused, "
        f"in {seconds['total']:.0f} s"
    )
    put()
    if "amendment" in result:
        _show_amendment(result)
    if result.get("watch", {}).get("stopped"):
        watch = result["watch"]
        put(f"training was stopped, {watch['stopped']}: {watch['reason']}")
        put(f"the weights of update {watch['kept_step']} were kept")
        put()
    if "rounds" in result:
        _show_rounds(result["rounds"])
    _show_suites(result.get("suites", {}))
    put("promoted" if result["promoted"] else "refused")
    for reason in result["reasons"]:
        put(f"  {reason}")
    put()
    put(f"run {result['run'][:12]}, report: {result.get('report', '-')}")


SHOWN = ("win_rate", "style", "truth")  # suites whose figures stand above, and in the report with their intervals


def _show_suites(found: dict[str, Any]) -> None:
    """What other suites measured, whatever it is."""
    for name, suite in found.items():
        if name not in SHOWN and suite["figures"]:
            rows = [(f["title"], *(_figure(f[side], f["unit"]) for side in SIDES)) for f in suite["figures"].values()]
            put_table((suite["title"], *SIDES), rows, right=SIDES)
            put()


SIDES = ("before", "after", "change")


def _figure(interval: dict[str, Any] | None, unit: str) -> str:
    form = percent if unit == "rate" else lambda x: number(x, 1)
    return "-" if interval is None else form(interval["mean"])


def _show_rounds(rounds: list[dict[str, Any]]) -> None:
    """Each further round against the last and the first, on the development split."""
    rows = [
        (str(r["number"]), *(_interval(r[name]["win_rate"]) for name in ("last", "first")), _HELPED[r["helped"]])
        for r in rounds
    ]
    put_table(("round", "win rate against the last", "against the first", ""), rows)
    put()


_HELPED = {True: "helped", False: "did not help: the last one's model stays"}


def _interval(win: dict[str, float | None]) -> str:
    return f"{number(win['mean'])} ({number(win['low'])} to {number(win['high'])})"


_FOUND = {"towards": "moved towards it", "away": "moved away from it", "unchanged": "unchanged", "unclear": "not clear"}


def _show_amendment(result: dict[str, Any]) -> None:
    """What a retrain did, by principle, and what it cost beside the run it started from."""
    amendment, calls, seconds = result["amendment"], result["calls"], result["seconds"]
    rows = [
        (e["principle"], e["change"].replace("none", "-"), _points(e), _FOUND[e["found"]]) for e in amendment["effects"]
    ]
    put_table(("by the evaluator", "amended", "points, 95% interval", "the model"), rows)
    put()
    asked = calls["generated"] + calls["chosen"]
    share = asked / max(1, amendment["base_calls"])
    engine = seconds["asking"] / max(1e-9, amendment["base_seconds"]["asking"])
    put(
        f"run {amendment['base'][:12]} made {amendment['base_calls']} calls; this one {asked} ({percent(share)}), in "
        f"{percent(engine)} of its engine seconds and {seconds['total']:.0f} s to its "
        f"{amendment['base_seconds']['total']:.0f} s"
    )
    put()


def _points(effect: dict[str, Any]) -> str:
    if effect["mean"] is None:
        return "-"
    mean, low, high = (100 * effect[name] for name in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _truth(accuracy: float | None) -> str:
    return "" if accuracy is None else f"; by the truth right on {percent(accuracy)}"


def _estimate(file: Path | None, flags: dict[str, Any], as_json: bool) -> None:
    from service.queries.estimate import estimate
    from service.wiring import Wiring

    wiring = Wiring(load(file, flags))
    try:
        found = estimate(wiring)
    finally:
        wiring.close()
    put_json(found.as_dict()) if as_json else _show_estimate(found)


def _show_estimate(found: Estimate) -> None:
    rows = [(s.name, f"{s.calls:,}", f"{s.tokens:,}") for s in found.stages]
    put_table(("at most", "calls", "tokens"), rows, right=("calls", "tokens"))
    put()
    prompts = found.prompts
    put(f"prompts  {prompts['train']} to train on, {prompts['heldout']} held out")
    if found.run is not None:
        put(f"run      {found.run.id.hex()[:12]} is {found.run.status}: what it has is not asked again")
    put(f"calls    {found.calls():,}: {found.calls('generate'):,} to generate, {found.calls('choose'):,} to choose")
    put(f"tokens   about {found.tokens:,}" + ("" if found.measured_by else ", guessed from the texts' lengths"))
    if found.cost_per_1k_tokens:
        put(f"cost     about {found.as_dict()['cost']:.2f}")
    seconds = found.as_dict()["seconds"]
    put("time     not measured yet" if seconds is None else f"time     about {seconds:.0f} s, at the last run's rate")
