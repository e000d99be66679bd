"""`precept run list | show | resume`: what was run, what came of it, and going on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import improve
from cli.options import Json, Set, SettingsFile, flags_of, load, store_of
from cli.screen import put, put_json, put_table, tell
from constitution.errors import UserError

if TYPE_CHECKING:
    from service.settings import Settings
    from storage.runs import Run

LOOPS = ("improve", "retrain")
app = typer.Typer(no_args_is_help=True, help="Runs: list them, show one, go on with one.")
Id = Annotated[str, typer.Argument(metavar="ID", help="The run, by the first digits of its id.")]


@app.command("list")
def list_(settings: SettingsFile = None, as_json: Json = False) -> None:
    """All runs of the store, the newest first.

    Example: precept run list --json
    """
    with store_of(load(settings)) as store:
        runs = store.runs()
    if as_json:
        put_json([_summary(run) for run in runs])
        return
    rows = [(r.id.hex()[:12], r.kind, r.status, r.created[:19], _outcome(r)) for r in runs]
    put_table(("run", "flow", "status", "begun (UTC)", "outcome"), rows)


@app.command()
def show(id: Id, settings: SettingsFile = None, as_json: Json = False) -> None:
    """One run: how it ended, with its result.

    Example: precept run show 3f2a
    """
    with store_of(load(settings)) as store:
        run = store.run(id)
        reused = store.reused(run.id)
        stages = {stage: len(store.stage_members(run.id, stage)) for stage in reused}
    if as_json:
        put_json({**_summary(run), "settings": run.settings, "result": run.result, "stages": stages})
        return
    put(f"run {run.id.hex()}: {run.kind}, {run.status}")
    put(f"begun {run.created[:19]} UTC" + (f", ended {run.finished[:19]} UTC" if run.finished else ""))
    if run.constitution:
        put(f"constitution {run.constitution}")
    if run.error:
        put(run.error)
    put()
    put_table(("stage", "records", "of which stored before"), [(s, str(n), str(reused[s])) for s, n in stages.items()])
    if run.result:
        put()
        if "win_rate" in run.result and "before" in run.result:
            improve.show(run.result)
        else:
            put_json(run.result)
    if run.status in ("stopped", "failed"):
        put(f"go on with: precept run resume {run.id.hex()[:12]}")


@app.command()
def resume(
    id: Id,
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: improve.MaxCalls = None,
    max_tokens: improve.MaxTokens = None,
    max_cost: improve.MaxCost = None,
    as_json: Json = False,
    quiet: improve.Quiet = False,
    verbose: improve.Verbose = False,
) -> None:
    """Go on with a run that stopped, with the settings and the constitution it began with.

    Limits, devices, batch sizes and where things are kept come from the settings of now.

    Example: precept run resume 3f2a --max-calls 100000
    """
    own = flags_of(set_) | improve.limits(max_calls, max_tokens, max_cost)
    now = load(settings, own)
    with store_of(now) as store:
        run = store.run(id)
        text = store.constitutions().get(run.constitution or "")
    if run.status == "finished":
        tell(f"run {run.id.hex()[:12]} is finished; this is its result")
    flags = as_it_began(run, now, text) | own
    _check_same(run, load(settings, flags))
    result = improve.run_flow(run.kind, settings, flags, quiet, verbose)
    put_json(result) if as_json or run.kind not in LOOPS else improve.show(result)


def as_it_began(run: Run, now: Settings, constitution: str | None) -> dict[str, Any]:
    """The flags that make today's settings those of the run. Its constitution is written out beside its other files,
    because the file it was read from may say something else by now."""
    from service.settings import RoleSettings

    try:
        flags: dict[str, Any] = json.loads(json.dumps(run.settings["settings"]))
        flags["slot"] = json.loads(run.key)["slot"]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"run {run.id.hex()[:12]} ({run.kind}) is not a flow's: there is nothing to go on with"
        ) from None
    for name, role in flags.items():
        today = getattr(now, name, None)
        if isinstance(role, dict) and isinstance(today, RoleSettings):  # what of a role is not part of the run
            role |= {key: getattr(today, key) for key in ("device", "batch_size", "api_key_env")}
    if constitution is not None:
        from storage.artifacts import write_text

        path = Path(now.home) / run.id.hex()[:12] / "principles.yaml"
        write_text(path, constitution)
        flags["constitution"] = str(path)
    return flags


def _check_same(run: Run, settings: Settings) -> None:
    """Raises UserError where these settings would begin another run: a file they name is not what it was."""
    from service.queries.base_run import wire
    from service.queries.estimate import find

    wiring = wire(run.kind, settings)
    try:
        found = find(run.kind, wiring)
    finally:
        wiring.close()
    if found is None or found.id != run.id:
        raise UserError(
            f"run {run.id.hex()[:12]} cannot be gone on with: its prompts ({settings.prompts}) or its models are not "
            f"what they were when it began; put them back, or begin anew with: precept {run.kind}"
        )


def _summary(run: Run) -> dict[str, Any]:
    return {
        "id": run.id.hex(), "kind": run.kind, "status": run.status, "constitution": run.constitution,
        "created": run.created, "finished": run.finished, "error": run.error,
    }  # fmt: skip


def _outcome(run: Run) -> str:
    if isinstance(run.result, dict) and "promoted" in run.result:
        win = run.result["win_rate"]["mean"]
        return f"win rate {win:.3f}, {'promoted' if run.result['promoted'] else 'refused'}"
    return (run.error or "").partition("\n")[0][:80]
