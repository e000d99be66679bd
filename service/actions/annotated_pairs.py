"""A run's comparisons as a file of annotated pairs: what its judge made of each, each of its principles, and people.

The format is `pipeline/sources/annotated_pairs.py`'s. Reviewers are numbered, not named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import UserError
from constitution.records import PROBABILITY, Id, SpotCheck
from pipeline.sources import annotated_pairs as format
from pipeline.sources.annotated_pairs import Annotated, Annotator, Said
from service.actions import imports
from service.actions.data_files import Split

if TYPE_CHECKING:
    from service.queries.judged import Judged
    from storage.labels import Contribution
    from storage.runs import Run
    from storage.store import Store

JUDGE, PEOPLE = "judge", "people"


@dataclass(frozen=True)
class Exported:
    """`annotators`: by kind, how many stand in the file. `default`: whose preferences are the file's own."""

    file: Path
    run: str
    comparisons: int
    annotators: Mapping[str, int]
    default: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": str(self.file), "run": self.run, "comparisons": self.comparisons,
            "annotators": dict(self.annotators), "default_annotator": self.default,
        }  # fmt: skip


def export(store: Store, out: Path, run: str = "", split: Split = Split.train) -> Exported:
    """Write what was said of a run's comparisons (or of the newest that judged anything, or of imported preferences).

    Raises UserError for a file that is no .json, and where there is nothing to write.
    """
    from service.queries import judged
    from storage.artifacts import write_bytes

    if out.suffix != ".json":
        raise UserError(f"{out}: annotated pairs are one JSON text: give a .json file")
    imported = imports.find(store, run)
    about = None if imported else judged.newest(store, run)
    source = imported or (about.run if about else store.run(run))
    of = _splits(store, about.comparisons if about else list(imports.preferences(store, source)))
    ids = [id for id, here in of.items() if split in (Split.all, here)]
    if not ids:
        raise UserError(f"there is no comparison of run {source.id.hex()[:12]} to export in the split {split.value}")
    said, annotators = _everybody(about, ids) if about else _people_of(store, source, ids)
    pairs = {pair.comparison.id: pair for pair in store.pairs(ids)}
    rows = [
        Annotated(id.hex(), pairs[id].messages, pairs[id].first, pairs[id].second, said[id], {"split": of[id]})
        for id in ids
    ]
    default = next(one for one in annotators if one.id == format.DEFAULT)
    text = format.document(
        rows, annotators, default=default.id, created_at=_now(), dataset_name=f"precept run {source.id.hex()[:12]}",
        description="Comparisons of a run of precept, annotated by its judge, by each of its principles and by people",
        **({"constitution": source.constitution} if source.constitution else {}),
    )  # fmt: skip
    write_bytes(out, (json.dumps(text, indent=1) + "\n").encode("ascii"))
    kinds = [one["type"] for one in text["annotators"].values()]
    counted = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return Exported(out, source.id.hex(), len(rows), counted, default.name)


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _splits(store: Store, comparisons: Sequence[Id]) -> dict[Id, str]:
    """The split of each comparison's prompt, in the order given."""
    prompts = {comparison.id: comparison.prompt for comparison in store.comparisons(list(comparisons))}
    of = {prompt.id: prompt.split for prompt in store.prompts(ids=list(set(prompts.values())))}
    return {id: of[prompts[id]] for id in comparisons}


# --- who says what -----------------------------------------------------------------------------------------------


def _people_of(store: Store, run: Run, ids: Sequence[Id]) -> tuple[dict[Id, dict[str, Said]], list[Annotator]]:
    """Imported preferences: people, taken together."""
    shares = imports.preferences(store, run)
    said = {id: {format.DEFAULT: _by_share(shares[id])} for id in ids}
    return said, [Annotator(format.DEFAULT, PEOPLE, f"People, as imported from {run.result['file']}", "human")]


def _everybody(about: Judged, comparisons: Sequence[Id]) -> tuple[dict[Id, dict[str, Said]], list[Annotator]]:
    """The judge's labels, each principle's votes, and what reviewers answered, each and all of them together. The
    file's own preferences are the people's where any answered, else the judge's."""
    said: dict[Id, dict[str, Said]] = {id: {} for id in comparisons}
    checks = about.store.spot_checks(run=about.run.id, stages=about.stages)
    people = [check for check in checks if check.answer != "skip" and check.comparison in said]
    judge = JUDGE if people else format.DEFAULT
    ids = {p.id: f"principle-{p.id}" for p in about.constitution}
    annotators = [
        Annotator(judge, JUDGE, "The run's judge: its label under the whole constitution", "ai"),
        *(
            Annotator(
                ids[p.id], p.id, p.comparison, "principle",
                {"title": p.title, "weight": p.weight / 1000, "critique": p.critique, "revision": p.revision},
            )
            for p in about.constitution
        ),
    ]  # fmt: skip
    for id, label in about.labels(comparisons).items():
        if label.state == "unreadable":
            said[id][judge] = Said(None, "invalid")
        else:
            first = label.preferred_first
            said[id][judge] = Said(None if first is None else "a" if first else "b", "neither", label.p / PROBABILITY)
    for vote in about.contributions(comparisons):
        for principle in about.principles[vote.question]:
            said[vote.comparison][ids[principle]] = _vote(vote)
    if people:
        annotators += _reviewers(people, said)
    return said, annotators


def _vote(verdict: Contribution) -> Said:
    """A principle's verdict. Exactly one half in both orders says that it does not apply; orders that cancel out say
    that it chooses neither."""
    if not verdict.readable:
        return Said(None, "invalid")
    p = (verdict.s + PROBABILITY) / (2 * PROBABILITY)
    if verdict.chooses:
        return Said("a" if verdict.s > 0 else "b", None, p)
    return Said(None, "not_applicable" if verdict.even else "neither", p)


def _reviewers(people: Sequence[SpotCheck], said: Mapping[Id, dict[str, Said]]) -> list[Annotator]:
    names = {name: f"person-{number}" for number, name in enumerate(sorted({c.reviewer for c in people}), 1)}
    together: dict[Id, list[float]] = {}
    for check in people:
        if check.share is None:
            said[check.comparison][names[check.reviewer]] = Said(None, "neither")
            continue
        said[check.comparison][names[check.reviewer]] = _by_share(check.share)
        together.setdefault(check.comparison, []).append(check.share)
    for id, values in together.items():
        said[id][format.DEFAULT] = _by_share(sum(values) / len(values))
    return [
        Annotator(format.DEFAULT, PEOPLE, "Reviewers, who saw the pair blind: what most of them say", "human"),
        *(Annotator(id, id, "One reviewer, who saw the pair blind", "human") for id in names.values()),
    ]


def _by_share(p: float) -> Said:
    """What people say of whom the share `p` prefers a."""
    return Said(None, "both", p) if p == 0.5 else Said("a" if p > 0.5 else "b", None, p)
