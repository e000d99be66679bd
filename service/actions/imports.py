"""Bringing prompts, human preferences and unlabelled pairs into the store: all rows of a file, or none.

What is imported is a run of its own (kind `import`), so that it is kept, can be listed and can be exported again. The
same file twice is one import. What people preferred is a document of that run; it is evidence about answers, not a
spot check: nobody of ours saw the pair blind.

A prompt's split goes by its opening: one that begins as a prompt of the store does has that one's split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constitution.records import Comparison, Id, Split
    from pipeline.sources.rows import Imported
    from service.settings import SplitSettings
    from storage.runs import Run
    from storage.store import Store

KIND = "import"
PAIRS = "pairs"
DOCUMENT = "preferences"
SPLITS: tuple[Split, ...] = ("train", "dev", "heldout")


class What(StrEnum):
    prompts = "prompts"
    preferences = "preferences"
    pairs = "pairs"


@dataclass(frozen=True)
class Kept:
    """`run`: the id of the import. `stored`: how many of each noun; `splits`: prompts, and `rows`: rows of the file, by
    split. `problems`: rows that were left out, and `ties`: those (or pairs of a ranking) that prefer neither answer,
    each with its place and why. `moved`: rows whose split is that of a prompt that opens alike."""

    run: str
    what: What
    file: Path
    stored: Mapping[str, int]
    splits: Mapping[str, int]
    problems: tuple[str, ...]
    rows: Mapping[str, int] = field(default_factory=dict)
    ties: tuple[str, ...] = ()
    moved: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run, "what": self.what.value, "file": str(self.file), "stored": dict(self.stored),
            "splits": dict(self.splits), "rows": dict(self.rows), "moved": self.moved,
            "skipped": len(self.problems), "left_out": [*self.problems, *self.ties],
        }  # fmt: skip


def bring_in(
    store: Store,
    what: What,
    file: Path,
    splits: SplitSettings,
    skip_bad: bool = False,
    names: Mapping[str, str] | None = None,
) -> Kept:
    """Read a file and store what it says. `names`: columns of the file by the names that they have here. Raises
    UserError that lists every row that cannot be used, and stores nothing, where there is one and it is not to be
    skipped."""
    from constitution.records import split_group
    from pipeline.sources import rows as reading

    found = reading.read(
        file, what.value, heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, names=names
    )  # fmt: skip
    known = reading.openings(store.prompts())
    taken, moved = [], 0
    for row in found.rows:
        split = known.get(split_group(row.prompt.messages), row.prompt.split) if known else row.prompt.split
        moved += split != row.prompt.split
        taken.append(replace(row, prompt=replace(row.prompt, split=split)))
    kept = _keep(store, what, file, taken)
    by_row = {row.row: row.prompt.split for row in taken}
    by_split = Counter(by_row.values())
    counted: dict[str, int] = {split: by_split[split] for split in SPLITS}
    return Kept(
        kept["run"], what, file, kept["stored"], kept["splits"], tuple(found.problems), counted, tuple(found.ties),
        found.moved + moved,
    )  # fmt: skip


def _keep(store: Store, what: What, file: Path, rows: Sequence[Imported]) -> dict[str, Any]:
    """Store what was read, as a run that is finished; returns its result."""
    from constitution.records import Comparison, canonical, make_id, text_digest

    texts = [
        [row.prompt.id, *map(text_digest, row.answers), *([row.p] if row.p != 1 else [])] for row in rows
    ]  # fmt: skip
    run = store.start_run(canonical({"kind": KIND, "what": what.value, "content": make_id(KIND, rows=texts)}), KIND, {})
    prompts = {row.prompt.id: row.prompt for row in rows}
    store.add_prompts(prompts.values())
    store.add_members(run.id, "prompts", list(prompts), list(range(len(prompts))))
    stored = {"prompts": len(prompts)}
    if what is not What.prompts:
        store.add_answers(text for row in rows for text in row.answers)
        pairs = [Comparison.of(row.prompt.id, *map(text_digest, row.answers)) for row in rows]
        distinct = {pair.id: pair for pair in pairs}
        store.add_comparisons(
            list(distinct.values()), run=run.id, stage=PAIRS, ordinals=list(range(len(distinct)))
        )  # fmt: skip
        stored[PAIRS] = len(distinct)
        if what is What.preferences:
            labels = _labels(rows, pairs)
            store.put_document(DOCUMENT, run.id.hex(), labels)
            stored[DOCUMENT] = len(labels)
    counted = Counter(prompt.split for prompt in store.prompts(ids=list(prompts)))
    splits = {split: counted[split] for split in SPLITS}
    result = {"run": run.id.hex(), "what": what.value, "file": str(file), "stored": stored, "splits": splits}
    store.finish_run(run.id, "finished", result=result)
    return result


def _labels(rows: Sequence[Imported], pairs: Sequence[Comparison]) -> list[list[Any]]:
    """[comparison, whether its first answer is the chosen one, how sure that is where it is not certain] of each row;
    the same row twice counts twice."""
    from constitution.records import text_digest

    return [
        [pair.id.hex(), pair.first == text_digest(row.answers[0]), *([row.p] if row.p != 1 else [])]
        for row, pair in zip(rows, pairs, strict=True)
    ]


def find(store: Store, name: str) -> Run | None:
    """The run of that id if people's preferences were imported in it."""
    if not name:
        return None
    run = store.run(name)
    return run if run.kind == KIND and store.document(DOCUMENT, run.id.hex()) is not None else None


def preferences(store: Store, run: Run) -> dict[Id, float]:
    """What people preferred: by comparison, the probability that its first answer is the better one. It is the mean of
    all that they said of the pair, so that two who say the opposite leave it at 1/2."""
    said: dict[Id, list[float]] = {}
    for comparison, first, *sure in store.document(DOCUMENT, run.id.hex()):
        p = sure[0] if sure else 1.0
        said.setdefault(bytes.fromhex(comparison), []).append(p if first else 1 - p)
    return {comparison: sum(values) / len(values) for comparison, values in said.items()}
