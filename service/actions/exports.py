"""What a run labelled, as a data set in TRL's own columns with a card that says how it came about.

Each file is written whole or not at all. Ties and unreadable pairs stay in the store; the card counts them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from pipeline.judges.by_principle import asked_most
from service.actions.data_files import DataSet, Exported, Format, Row, Split, check_name, write

if TYPE_CHECKING:
    from constitution.records import Id
    from storage.runs import Run
    from storage.store import Store


def export(store: Store, out: Path, run: str, format: Format, split: Split) -> Exported:
    """Write the data set of a run (or of the newest that labelled anything), whole or not at all.

    Raises UserError for a file that is neither .jsonl nor .parquet, and where there is nothing to export.
    """
    check_name(out)
    found = collect(store, run, format, split)
    if not found.rows:
        left = ", ".join(f"{count} {why}" for why, count in found.left_out.items() if count)
        raise UserError(f"there is nothing to export in the split {split}" + (f" (left out: {left})" if left else ""))
    return write(out, format, found)


# --- rows --------------------------------------------------------------------------------------------------------


def collect(store: Store, run: str, format: Format, split: Split) -> DataSet:
    """The rows of a run's data set in one format, in the order of the pairs' (or the prompts') ids."""
    if format is Format.prompt_only:
        from pipeline.assemble import messages
        from service.queries.pool import NO_LABELS

        about = store.run(run) if run else next((r for r in store.runs() if r.kind not in NO_LABELS), None)
        if about is None:
            raise UserError("there is no run yet whose prompts could be exported; `precept improve` makes one")
        prompts = store.prompts(ids=store.stage_members(about.id, "prompts"))
        rows = [{"prompt": messages(p.messages)} for p in prompts if split in (Split.all, p.split)]
        return DataSet(rows, source=_source(about, split))
    if format is Format.prompt_completion:
        return _rewritten(store, run, split)
    pairs = _pairs(store, run, split, hard=format is Format.unpaired)
    return pairs if format is Format.preference else _unpaired(pairs)


def _pairs(store: Store, run: str, split: Split, hard: bool) -> DataSet:
    from service.actions import imports

    about = imports.find(store, run)
    if about is not None:
        return _imported(store, about, split)
    return _labelled(store, run, split, hard)


def _labelled(store: Store, run: str, split: Split, hard: bool) -> DataSet:
    """Decided labels as preference rows. `hard`: without a probability, so without labels that rest on verdicts which
    change with the order."""
    from service.queries import judged

    about = judged.newest(store, run)
    cases, splits = _texts(store, about.comparisons)
    labels = about.labels(about.comparisons)
    here = [labels[c] for c in about.comparisons if split in (Split.all, splits[c])]
    rows = [
        _row(cases[x.comparison], first=x.preferred_first, p=max(x.p, 10**9 - x.p) / 10**9)
        for x in sorted(here, key=lambda x: x.comparison)
        if x.preferred_first is not None
    ]
    unreadable = sum(x.state == "unreadable" for x in here)
    left_out = {"tied": len(here) - len(rows) - unreadable, "unreadable": unreadable}
    if hard:
        steady = {id.hex() for id in about.steady({x.comparison: x for x in here})}
        kept = [row for row in rows if row["comparison"] in steady]
        if len(kept) < len(rows):
            left_out["resting on verdicts that change with the order"] = len(rows) - len(kept)
        rows = kept
    source = _source(about.run, split) | {
        "judge": asked_most(store.questions(list(about.voices))),
        "label rule": json.dumps({**about.run.settings["settings"]["label"], **asdict(about.rule)}, sort_keys=True),
    }
    return DataSet(rows, left_out, source)


def _rewritten(store: Store, run: str, split: Split) -> DataSet:
    """What reviewers of the run's pairs would have answered: a row a rewrite, for supervised fine-tuning."""
    from pipeline.assemble import messages, said
    from service.queries import judged

    about = judged.newest(store, run)
    checks = [c for c in store.spot_checks(run=about.run.id, stages=about.stages) if c.rewrite]
    cases, splits = _texts(store, sorted({c.comparison for c in checks}))
    here = sorted(
        (c for c in checks if split in (Split.all, splits[c.comparison])), key=lambda c: (c.comparison, c.event)
    )
    rows = [
        {
            "prompt": messages(cases[c.comparison].messages), "completion": said(c.rewrite), "written_by": "person",
            "comparison": c.comparison.hex(),
        }
        for c in here
    ]  # fmt: skip
    return DataSet(rows, source=_source(about.run, split) | {"written by": "people who reviewed the run's pairs"})


def _imported(store: Store, about: Run, split: Split) -> DataSet:
    """What people preferred, as it was imported: a row a pair, `p` the share of them that says so. Where they are of
    opposite minds it is a tie, by the margin of the label rule, and no row."""
    from constitution.records import LabelRule
    from service.actions import imports

    labels = imports.preferences(store, about)
    cases, splits = _texts(store, list(labels))
    here = [(c, p) for c, p in sorted(labels.items()) if split in (Split.all, splits[c])]
    decided = [(c, p) for c, p in here if abs(2 * p - 1) >= LabelRule().tie_margin and p != 0.5]
    rows = [_row(cases[c], first=p > 0.5, p=max(p, 1 - p)) for c, p in decided]
    left_out = {"tied: people said the opposite": len(here) - len(rows)}
    source = _source(about, split) | {"labels": f"people's, imported from {about.result['file']}"}
    return DataSet(rows, left_out, source)


def _unpaired(pairs: DataSet) -> DataSet:
    """Each answer once. One that won a pair and lost another has no label of its own, and is left out."""
    said: dict[str, tuple[Row, set[bool]]] = {}
    for row in pairs.rows:
        for name, label in (("chosen", True), ("rejected", False)):
            single = {"prompt": row["prompt"], "completion": row[name]}
            said.setdefault(json.dumps(single), (single, set()))[1].add(label)
    rows = [{**single, "label": labels == {True}} for single, labels in said.values() if len(labels) == 1]
    left_out = pairs.left_out | {"answers that won and lost": len(said) - len(rows)}
    return DataSet(rows, left_out, pairs.source)


def _texts(store: Store, comparisons: Sequence[Id]) -> tuple[dict[Id, Any], dict[Id, str]]:
    """Pairs with their texts, and the splits of their prompts, by comparison."""
    cases = {p.comparison.id: p for p in store.pairs(list(comparisons))}
    of = {p.id: p.split for p in store.prompts(ids=list({p.comparison.prompt for p in cases.values()}))}
    return cases, {c: of[pair.comparison.prompt] for c, pair in cases.items()}


def _row(pair: Any, first: bool, p: float) -> Row:
    from pipeline.assemble import messages, said

    chosen, rejected = (pair.first, pair.second) if first else (pair.second, pair.first)
    return {
        "prompt": messages(pair.messages), "chosen": said(chosen), "rejected": said(rejected), "p": p,
        "comparison": pair.comparison.id.hex(),
    }  # fmt: skip


def _source(run: Run, split: Split) -> dict[str, str]:
    return {"run": run.id.hex(), "constitution": run.constitution or "-", "split": split.value}
