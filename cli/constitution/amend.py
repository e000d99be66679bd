"""`precept constitution amend`: what an edit of the constitution would change and cost, and putting it in force."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completing
from cli.constitution.preview import markdown, show, told
from cli.options import Json, Quiet, Set, SettingsFile, Verbose, flags_of, project
from cli.results import show as show_result
from cli.screen import put, put_json, tell
from cli.start import STOPPED, run_flow
from constitution.errors import UserError

if TYPE_CHECKING:
    from constitution.principles import Constitution
    from service.actions.ratify import Ratified
    from service.queries.preview import Preview
    from service.wiring import Wiring


def amend(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The draft: an edited file of principles.")],
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Ask the judge about N labels that the edit may flip.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look; without --ratify nothing else is done.")
    ] = False,
    try_: Annotated[
        bool, typer.Option("--try", help="Today's answers beside the draft's, each in the system prompt; nothing else.")
    ] = False,
    prompts: Annotated[
        int, typer.Option("--n", metavar="N", min=1, help="How many prompts --try is asked, none of them held out.")
    ] = 3,
    ratify: Annotated[bool, typer.Option("--ratify", help="Put the draft in force.")] = False,
    message: Annotated[str, typer.Option("-m", "--message", metavar="WHY", help="The reason, for --ratify.")] = "",
    reviewed: Annotated[
        str,
        typer.Option("--reviewed", metavar="DIGEST", help="Ratify only the draft whose preview has this digest."),
    ] = "",
    made_from: Annotated[
        str, typer.Option("--made-from", metavar="REV", help="The amendment the draft was made from; the nearest.")
    ] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="Write what was ratified meanwhile into FILE, beside your edits.")
    ] = False,
    retrain: Annotated[bool, typer.Option("--retrain", help="After --ratify, retrain at once.")] = False,
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="ID",
            help="The run whose labels are looked at, by the first digits of its id; the newest finished.",
            autocompletion=completing.runs,
        ),
    ] = "",
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print what a reviewer wants to read.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a draft would change: principles, labels, what each way of retraining takes. --ratify puts it in force.

    Reweighting and removing are answered exactly, asking no model; --sample estimates what new words would flip; --try
    shows what the model says when told, before anything is trained.

    Example: precept constitution amend principles.yaml --ratify -m "Visitors asked for sources"
    """
    if ratify and dry_run:
        raise UserError("--dry-run only looks, --ratify puts the draft in force: leave one of them out")
    if (message or reviewed or retrain) and not ratify:
        raise UserError("-m, --reviewed and --retrain go with --ratify")
    if try_ and (ratify or merge or sample):
        raise UserError("--try only asks for answers: look at them, then run amend without it")
    if merge and (ratify or dry_run):
        raise UserError("--merge writes FILE and does no more: look at what it says, then --ratify it")
    flags = flags_of(set_)
    loaded = project(settings, flags)
    if try_:
        from cli.constitution.draft_answers import show_tried

        show_tried(loaded, file, prompts, as_json, quiet)
        return
    from cli.progress import Reporter
    from constitution import loading
    from service.actions.ratify import check_unchanged
    from service.queries import preview
    from service.settings import process_user
    from service.wiring import Wiring
    from service.work.budget import BudgetReached
    from service.work.sample import sampled

    who = process_user()
    draft = loading.load(file)
    wiring = Wiring(loaded)
    try:
        if wiring.store.ratified() is None:
            if ratify:
                check_unchanged(file, draft, preview.digest(draft), reviewed)
            _first(wiring, draft, ratify, message, as_json)
            return
        if merge:
            _merge(wiring, file, draft, made_from, as_json)
            return
        if sample:
            found = sampled(wiring, draft, sample, who=who, report=Reporter(quiet), base=made_from, run=run)
        else:
            found = preview.preview(wiring, draft, who, base=made_from, run=run)
        if as_json and not ratify:
            put_json(found.as_dict())
        elif as_markdown and not ratify:
            typer.echo(markdown(found), nl=False)
        elif not as_json:
            show(found, file, ratify)
        made, started = _ratify(wiring, found, message, file, reviewed) if ratify else (None, ())
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None
    finally:
        wiring.close()
    if made is None:
        return
    here = made.trains and (retrain or loaded.retrain.on_ratify)
    if not as_json:
        _show_ratified(made, started, here)
    shown = made.as_dict()
    if here:
        shown["retrain"] = _retrain(shown, settings, flags, as_json, quiet, verbose)
    if as_json:
        put_json(shown)


def _retrain(
    made: dict[str, Any], settings: Path | None, flags: dict[str, Any], as_json: bool, quiet: bool, verbose: bool
) -> Any:
    """The result of the retrain that follows. Whatever becomes of it, the amendment is in force, and said to be."""
    try:
        result = run_flow("retrain", settings, flags, quiet, verbose)
    except BaseException:
        if as_json:
            put_json(made)
        raise
    if not as_json:
        show_result(result)
    return result


def _first(wiring: Wiring, draft: Constitution, ratify: bool, message: str, as_json: bool) -> None:
    """A store in which nothing is in force has nothing to compare with."""
    from service.actions.ratify import ratify as put_in_force
    from service.settings import process_user

    if not ratify:
        raise UserError(
            "nothing is ratified in this store yet, so there is nothing to compare with: the first `precept improve` "
            'ratifies its constitution, or do it now with --ratify -m "why"'
        )
    made = put_in_force(wiring.store, draft, None, process_user(), message)
    put_json({"amendment": made.number, "version": made.version}) if as_json else put(
        f"ratified: amendment {made.number}, version {made.version[:12]}, {len(draft)} principles"
    )


def _ratify(
    wiring: Wiring, found: Preview, message: str, file: Path, reviewed: str
) -> tuple[Ratified, tuple[str, ...]]:
    """What was ratified, and the deployments that this has started on a Prefect server."""
    from flows import announcing
    from service.actions.ratify import Overtaken, ratify_previewed
    from service.settings import process_user

    try:
        made = ratify_previewed(wiring.store, found, file, process_user(), message, reviewed)
    except Overtaken as error:
        both = "" if error.found is None else told(error.found)
        raise UserError(f"{error.what}\n{both}{error.mend}") from None
    url = wiring.settings.store.get_secret_value()
    return made, announcing.awaiting(url) if announcing.ratified(made.amendment, url) else ()


def _show_ratified(made: Ratified, started: Sequence[str], here: bool) -> None:
    now, way = made.amendment, made.preview.ways[0]
    put()
    put(f"ratified: amendment {now.number}, version {now.version[:12]}, by {now.who}")
    if made.preview.difference.same_version:
        put("no model reads anything else: there is nothing to label or to train")
    elif here:
        put(f"retraining now, which asks for {way.verdicts:,} verdicts on the labels")
    elif not any(name.startswith("retrain/") for name in started):
        put(f"next: {way.command}, which asks for {way.verdicts:,} verdicts on the labels")
    for name in started:
        put(f"{name} starts by itself, on the Prefect server (`precept run list` shows it)")


def _merge(wiring: Wiring, file: Path, draft: Constitution, revision: str, as_json: bool) -> None:
    from service.actions.ratify import Contradiction, merge
    from service.settings import process_user

    try:
        done = merge(wiring.store, file, draft, process_user(), revision)
    except Contradiction as error:
        raise UserError(f"{error.what}\n{told(error.found)}{error.mend}") from None
    now = done.now.number
    if as_json:
        put_json(done.as_dict())
    elif done.written:
        put(f"{file} now says what amendment {now} says and what you wrote")
        put(f"look at it: precept constitution amend {file}")
    else:
        put(f"{file} was made from amendment {now}, which is in force: there is nothing to merge")
