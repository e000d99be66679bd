"""Pairs that came from elsewhere: a file of unlabelled pairs or of human preferences, before the judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from constitution.records import Comparison, Id, text_digest
from pipeline import label as labelling
from pipeline.metrics import intervals
from pipeline.sources.file import located
from pipeline.sources.rows import pair_kind, read, unread_winner
from service.work.stages import stop_if_all_omitted, stop_if_unreadable
from service.work.work import Work


def import_pairs(work: Work, stage: str) -> dict[str, str]:
    """The pairs of the file that the settings name, as comparisons. Returns, by comparison (hex), which side the file
    prefers (`first`, `second`), empty for unlabelled pairs, for ties, and for one that it has both ways."""
    path, names, skip_bad = located(work.settings.pairs, "pairs")
    kind, splits = pair_kind(path, names), work.settings.splits
    found = read(path, kind, heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, names=names)
    rows = [*found.rows, *found.tied]
    if found.problems:
        work.log(f"{path}: left out {len(found.problems)} rows that cannot be used")
    if kind == "pairs" and (said := unread_winner(path, names)):
        work.log(f"{path}: no row says a, b or tie ({said}): its pairs are judged as pairs that nobody compared")
    work.store.add_prompts([row.prompt for row in rows])
    work.store.add_answers([text for row in rows for text in row.answers])
    preferred: dict[str, str] = {}
    comparisons: dict[Id, Comparison] = {}
    for place, row in enumerate(rows):
        one, other = (text_digest(text) for text in row.answers)
        comparison = Comparison.of(row.prompt.id, one, other)
        name, side = comparison.id.hex(), "first" if comparison.first == one else "second"
        side = "" if kind == "pairs" or place >= len(found.rows) else side
        preferred[name] = side if comparison.id not in comparisons or preferred[name] == side else ""
        comparisons[comparison.id] = comparison
    work.store.add_comparisons(
        list(comparisons.values()), run=work.run.id, stage=stage, ordinals=list(range(len(comparisons)))
    )
    return preferred


def judge_pairs(work: Work, stage: str, preferred: Mapping[str, str]) -> dict[str, Any]:
    """The judge's labels of imported pairs, and where the file says which is better, how often the judge agrees."""
    judge = work.wiring.judge(work.settings.judge)
    ids = work.members(stage)
    work.ask_judge(stage, judge, ids)
    stop_if_all_omitted(work, judge, ids)
    found = stop_if_unreadable(work, judge, ids)
    labels = work.labels(judge, ids)
    names = {True: "first", False: "second"}
    said = [(names[x.preferred_first], preferred[i.hex()]) for i, x in labels.items() if x.preferred_first is not None]
    right = [float(ai == human) for ai, human in said if human]
    questions = {p.id: judge.question(p).id for p in work.constitution.principles}
    return {
        "labels": labelling.counts(list(labels.values())),
        "agrees_with_file": intervals.interval_of(right).as_dict() if right else None,
        "consistency": {name: asdict(found[q]) for name, q in questions.items() if q in found},
    }
