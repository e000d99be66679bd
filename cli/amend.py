"""`precept amend`: what an edit of the constitution would change and cost, and putting it in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.improve import STOPPED, Quiet, Verbose
from cli.options import Json, Set, SettingsFile, flags_of, load
from cli.screen import number, put, put_json, put_table, tell
from constitution.errors import UserError

if TYPE_CHECKING:
    from constitution.merge import ThreeWay
    from constitution.principles import Constitution
    from service.queries.preview import Flip, Preview
    from service.wiring import Wiring


def amend(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The draft: an edited file of principles.")],
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Ask the judge about N labels that the edit may flip.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look; without --ratify nothing else is done.")
    ] = False,
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
        str, typer.Option("--run", metavar="ID", help="The run whose labels are looked at; the newest finished.")
    ] = "",
    settings: SettingsFile = None,
    set_: Set = None,
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print what a reviewer wants to read.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a draft would change: principles, labels, what each way of retraining takes. --ratify puts it in force.

    Reweighting and removing are answered exactly, asking no model; --sample estimates what new words would flip.

    Example: precept amend principles.yaml --ratify -m "Visitors asked for sources"
    """
    if ratify and dry_run:
        raise UserError("--dry-run only looks, --ratify puts the draft in force: leave one of them out")
    if (message or reviewed or retrain) and not ratify:
        raise UserError("-m, --reviewed and --retrain go with --ratify")
    if merge and (ratify or dry_run):
        raise UserError("--merge writes FILE and does no more: look at what it says, then --ratify it")
    flags = flags_of(set_)
    loaded = load(settings, flags)
    from cli.progress import Reporter
    from constitution.principles import Constitution
    from service.queries import preview
    from service.settings import process_user
    from service.wiring import Wiring
    from service.work.budget import BudgetReached
    from service.work.sample import sampled

    who = process_user()
    draft = Constitution.load(file)
    wiring = Wiring(loaded)
    try:
        if wiring.store.ratified() is None:
            if ratify:
                _check_unchanged(file, draft, preview.digest(draft), reviewed)
            _first(wiring, draft, ratify, message, as_json)
            return
        if merge:
            _merge(wiring, file, draft, made_from)
            return
        if sample:
            found = sampled(wiring, draft, sample, who=who, report=Reporter(quiet), base=made_from, run=run)
        else:
            found = preview.preview(wiring, draft, who, base=made_from, run=run)
        if as_json and not ratify:
            put_json(found.as_dict())
        elif as_markdown and not ratify:
            typer.echo(_markdown(found), nl=False)
        elif not as_json:
            _show(found, file, ratify)
        if ratify:
            _check_unchanged(file, draft, found.digest, reviewed)
            made = _ratify(wiring, found, message, file, as_json)
    except BudgetReached as stop:
        tell(f"{stop}; run the same again with a higher limit")
        raise typer.Exit(STOPPED) from None
    finally:
        wiring.close()
    follows = (retrain or loaded.retrain.on_ratify) and found.difference.changes and not found.difference.same_version
    if ratify and follows:
        made["retrain"] = _retrain(made, settings, flags, as_json, quiet, verbose)
    if ratify and as_json:
        put_json(made)


def _retrain(
    made: dict[str, Any], settings: Path | None, flags: dict[str, Any], as_json: bool, quiet: bool, verbose: bool
) -> Any:
    """The result of the retrain that follows. Whatever becomes of it, the amendment is in force, and said to be."""
    from cli.improve import run_flow, show

    try:
        result = run_flow("retrain", settings, flags, quiet, verbose)
    except BaseException:
        if as_json:
            put_json(made)
        raise
    if not as_json:
        show(result)
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


def _check_unchanged(file: Path, draft: Constitution, digest: str, reviewed: str) -> None:
    """What is ratified is what was read and shown, not what the file says by now."""
    from constitution.principles import Constitution
    from constitution.problems import ConstitutionError

    if reviewed and (len(reviewed) < 4 or not digest.startswith(reviewed.lower())):
        raise UserError(
            f"{file} is not the draft that was reviewed: its digest is {digest}, not {reviewed}. Nothing was ratified; "
            f"look at what it says now: precept amend {file}"
        )
    try:
        now = Constitution.load(file).source
    except ConstitutionError:
        now = ""
    if now != draft.source:
        raise UserError(
            f"{file} was changed while its preview was made. Nothing was ratified; look again: precept amend {file}"
        )


def _ratify(wiring: Wiring, found: Preview, message: str, file: Path, as_json: bool) -> dict[str, Any]:
    from flows import announcing
    from service.actions.ratify import ratify
    from service.settings import process_user
    from storage.amendments import Superseded

    try:
        made = ratify(wiring.store, found.draft, found.base, process_user(), message)
    except Superseded as error:
        now = error.now
        both = "" if found.overtaken is None else _told(found.overtaken)
        raise UserError(
            f"{file} was made from amendment {found.base.number}, and {now.who if now else 'somebody'} has ratified "
            f"amendment {now.number if now else '?'} since. Nothing was ratified, and both texts are as they were.\n"
            f"{both}To have both: precept amend {file} --merge. To undo theirs knowingly: --made-from ratified"
        ) from None
    announcing.ratified(made, wiring.settings.store.get_secret_value())
    shown = {"amendment": made.number, "version": made.version, "preview": found.as_dict()}
    if as_json:
        return shown
    put()
    put(f"ratified: amendment {made.number}, version {made.version[:12]}, by {made.who}")
    if found.difference.same_version:
        put("no model reads anything else: there is nothing to label or to train")
    else:
        put(f"next: {found.ways[0].command}, which asks for {found.ways[0].verdicts:,} verdicts on the labels")
    return shown


def _merge(wiring: Wiring, file: Path, draft: Constitution, revision: str) -> None:
    from constitution.merge import three_way
    from service.queries.preview import made_from
    from service.settings import process_user
    from storage.artifacts import write_text

    store = wiring.store
    base, now = made_from(store, draft.source, process_user(), revision), store.amendment("ratified")
    if base.event == now.event:
        put(f"{file} was made from amendment {now.number}, which is in force: there is nothing to merge")
        return
    found = three_way(base.text, now.text, draft.source)
    if found.merged is None:
        raise UserError(
            f"{file} and amendment {now.number} say different things about the same lines; nothing was written.\n"
            f"{_told(found)}Edit {file} so that it says what both of you want, then: precept amend {file} "
            "--made-from ratified"
        )
    write_text(file, found.merged)
    put(f"{file} now says what amendment {now.number} says and what you wrote; look at it: precept amend {file}")


# --- what is printed ---------------------------------------------------------------------------------------------

_SIDES = {"theirs": "they changed", "yours": "you changed", "both": "both changed alike", "conflict": "both changed"}


def _told(found: ThreeWay) -> str:
    """A three-way diff: what they changed since the draft's base, what you changed, and where both did."""
    lines = []
    for edit in found.edits:
        what = " ".join(part for part in (edit.id or "the file's name", edit.field) if part)
        lines.append(f"  {_SIDES[edit.side]}: {what}")
        for name, value in (("before", edit.base), ("theirs", edit.theirs), ("yours", edit.yours)):
            lines.append(f"      {name:<7} {_short(value)}")
    return "\n".join(lines) + ("\n" if lines else "")


def _short(value: Any) -> str:
    if value is None:
        return "(not there)"
    text = value.comparison if hasattr(value, "comparison") else str(value)
    return text if len(text) <= 90 else text[:89] + "…"


def _show(found: Preview, file: Path, ratifying: bool) -> None:
    from cli.constitution import _console as screen
    from cli.diff import show_diff

    inforce = found.inforce
    put(f"{file} against amendment {inforce.number}, ratified {inforce.at[:10]} by {inforce.who}")
    if found.overtaken is not None:
        put(f"it was made from amendment {found.base.number}: what was ratified since would be undone")
        put(_told(found.overtaken))
    put()
    show_diff(screen(), found.difference)
    put()
    _show_labels(found)
    for flip in found.examples:
        _show_flip(flip)
    _show_ways(found)
    stale = found.stale
    if stale.of:
        names = ", ".join(stale.checkpoints) or "none"
        put(f"stale    {stale.chains:,} of {stale.of:,} chains of critique and revision; checkpoints: {names}")
    if stale.chains and not found.difference.same_version and not _relabels(found):
        put("         labels do not change, so only --from revise would train anything else")
    if not ratifying:
        put()
        put(f'to put it in force: precept amend {file} --ratify -m "why" --reviewed {found.digest}')


def _markdown(found: Preview) -> str:
    from constitution.markdown import Cost, Flip, Flips, markdown

    default, labels = found.ways[0], found.labels
    examples = [Flip(f.prompt, f.first, f.second, f.before, f.after, f.principles) for f in found.examples]
    return markdown(
        found.difference,
        cost=Cost(default.verdicts, default.tokens, default.seconds),
        flips=Flips(labels.total, labels.flips, labels.open, examples),
    )


def _relabels(found: Preview) -> bool:
    d = found.difference
    return bool(d.asks_judge or d.removed or d.reweighted)


def _show_labels(found: Preview) -> None:
    labels = found.labels
    if not labels.total:
        put("labels   none yet")
        return
    of = f"run {found.pool.run.id.hex()[:12]}" if found.pool.run else "the store"
    exactly = ", exactly" if not labels.open else f" for sure, {labels.open:,} may, the rest cannot"
    put(f"labels   {labels.total:,} of {of}: {labels.flips:,} flip{exactly}")
    if not labels.open:
        return
    if labels.expected is None or labels.low is None or labels.high is None:
        put("         ask about some of those that may: --sample 100")
    else:
        spread = f"95% interval {labels.low:,.0f} to {labels.high:,.0f}"
        put(f"         about {labels.expected:,.0f} are to be expected ({spread}), from a sample of {labels.sampled:,}")


def _show_flip(flip: Flip) -> None:
    put()
    put(f"  {_line(flip.prompt)}")
    put(f"    first    {_line(flip.first)}")
    put(f"    second   {_line(flip.second)}")
    by = f", by {', '.join(flip.principles[:3])}" if flip.principles else ""
    put(f"    {flip.before} ({number(flip.p_before, 2)}) becomes {flip.after} ({number(flip.p_after, 2)}){by}")


def _line(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 240 else one[:239] + "…"


def _show_ways(found: Preview) -> None:
    put()
    rows = [
        (
            w.command, f"{w.verdicts:,}", f"{w.evaluation:,}", f"{w.generated:,}", f"{w.tokens:,}",
            "not measured" if w.seconds is None else f"{w.seconds:,.0f} s",
        )
        for w in found.ways
    ]  # fmt: skip
    header = ("at most", "verdicts", "to evaluate", "texts", "tokens", "time")
    put_table(header, rows, right=header[1:])
