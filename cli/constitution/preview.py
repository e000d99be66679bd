"""The preview of a draft on the screen: what it changes, which labels flip, what each way of retraining takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.constitution.diff import show_diff
from cli.screen import console, number, put, put_prose, put_table

if TYPE_CHECKING:
    from constitution.merge import ThreeWay
    from service.queries.preview import Flip, Preview


def told(found: ThreeWay) -> str:
    """A three-way diff: what they changed since the draft's base, what you changed, and where both did."""
    from service.queries import changes

    lines = []
    for edit in changes.told(found):
        lines.append(f"  {edit.who}: {edit.what}")
        for name, value in (("before", edit.base), ("theirs", edit.theirs), ("yours", edit.yours)):
            lines.append(f"      {name:<7} {value}")
    return "\n".join(lines) + ("\n" if lines else "")


def show(found: Preview, file: Path, ratifying: bool) -> None:
    """Against which amendment, what changed, what becomes of the labels, and what it costs."""
    inforce = found.inforce
    put_prose(f"{file} against amendment {inforce.number}, ratified {inforce.at[:10]} by {inforce.who}")
    if found.overtaken is not None:
        put_prose(f"it was made from amendment {found.base.number}: what was ratified since would be undone")
        put_prose(told(found.overtaken))
    put()
    show_diff(console(), found.difference)
    put()
    _show_labels(found)
    for flip in found.examples:
        _show_flip(flip)
    _show_ways(found)
    stale = found.stale
    if stale.of:
        names = ", ".join(stale.checkpoints) or "none"
        put_prose(f"stale    {stale.chains:,} of {stale.of:,} chains of critique and revision; checkpoints: {names}")
    if stale.chains and not found.difference.same_version and not _relabels(found):
        put_prose("         labels do not change, so only --from revise would train anything else")
    if not ratifying:
        put()
        put_prose(f'to put it in force: precept constitution amend {file} --ratify -m "why" --reviewed {found.digest}')


def markdown(found: Preview) -> str:
    """What a reviewer wants to read, for a pull request."""
    from constitution.markdown import Cost, Flip, Flips
    from constitution.markdown import markdown as written

    default, labels = found.ways[0], found.labels
    examples = [Flip(f.prompt, f.first, f.second, f.before, f.after, f.principles) for f in found.examples]
    return written(
        found.difference,
        cost=Cost(default.verdicts, default.tokens, default.seconds),
        flips=Flips(labels.total, labels.flips, labels.open, examples),
    )


def _relabels(found: Preview) -> bool:
    d = found.difference
    return bool(d.judged_anew or d.removed or d.reweighted)


def _show_labels(found: Preview) -> None:
    labels = found.labels
    if not labels.total:
        put_prose("labels   none yet")
        return
    of = f"run {found.pool.run.id.hex()[:12]}" if found.pool.run else "the store"
    exactly = ", exactly" if not labels.open else f" for sure, {labels.open:,} may, the rest cannot"
    put_prose(f"labels   {labels.total:,} of {of}: {labels.flips:,} flip{exactly}")
    if found.sampled:
        put_prose(
            "         each by the principle that is drawn for it (compare.principles), and so are the verdicts counted"
        )
    if not labels.open:
        return
    if labels.expected is None or labels.low is None or labels.high is None:
        put_prose("         ask about some of those that may: --sample 100")
    else:
        spread = f"95% interval {labels.low:,.0f} to {labels.high:,.0f}"
        put_prose(
            f"         about {labels.expected:,.0f} are to be expected ({spread}), from a sample of {labels.sampled:,}"
        )


def _show_flip(flip: Flip) -> None:
    put()
    put_prose(f"  {_line(flip.prompt)}")
    put_prose(f"    first    {_line(flip.first)}")
    put_prose(f"    second   {_line(flip.second)}")
    by = f", by {', '.join(flip.principles[:3])}" if flip.principles else ""
    put_prose(f"    {flip.before} ({number(flip.p_before, 2)}) becomes {flip.after} ({number(flip.p_after, 2)}){by}")


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
