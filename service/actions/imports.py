"""Bringing prompts, human preferences and unlabelled pairs into the store: all rows of a file, or none.

What is imported is a run of its own (kind `import`), so that it is kept, can be listed and can be exported again. The
same file twice is one import. What people preferred is a document of that run; it is evidence about answers, not a
spot check: nobody of ours saw the pair blind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constitution.records import Comparison, Id
    from pipeline.sources.rows import Imported
    from service.settings import SplitSettings
    from storage.runs import Run
    from storage.store import Store

KIND = "import"
PAIRS = "pairs"
DOCUMENT = "preferences"


class What(StrEnum):
    prompts = "prompts"
    preferences = "preferences"
    pairs = "pairs"


@dataclass(frozen=True)
class Kept:
    """`run`: the id of the import. `stored`: how many of each noun; `splits`: prompts by split; `problems`: rows that
    were left out, each with its line and why."""

    run: str
    what: What
    file: Path
    stored: Mapping[str, int]
    splits: Mapping[str, int]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run, "what": self.what.value, "file": str(self.file), "stored": dict(self.stored),
            "splits": dict(self.splits), "skipped": len(self.problems),
        }  # fmt: skip


def bring_in(store: Store, what: What, file: Path, splits: SplitSettings, skip_bad: bool = False) -> Kept:
    """Read a file and store what it says. Raises UserError that lists every row that cannot be used, and stores
    nothing, where there is one and it is not to be skipped."""
    from pipeline.sources.rows import read_rows

    problems: list[str] = []
    rows = read_rows(
        file, what.value, heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, problems=problems
    )  # fmt: skip
    found = _keep(store, what, file, rows)
    return Kept(found["run"], what, file, found["stored"], found["splits"], tuple(problems))


def _keep(store: Store, what: What, file: Path, rows: Sequence[Imported]) -> dict[str, Any]:
    """Store what was read, as a run that is finished; returns its result."""
    from constitution.records import Comparison, canonical, make_id, text_digest

    texts = [[row.prompt.id, *map(text_digest, row.answers)] for row in rows]
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
    splits = {split: sum(p.split == split for p in prompts.values()) for split in ("train", "dev", "heldout")}
    result = {"run": run.id.hex(), "what": what.value, "file": str(file), "stored": stored, "splits": splits}
    store.finish_run(run.id, "finished", result=result)
    return result


def _labels(rows: Sequence[Imported], pairs: Sequence[Comparison]) -> list[list[Any]]:
    """[comparison, whether its first answer is the chosen one] of each row; the same row twice counts twice."""
    from constitution.records import text_digest

    return [
        [pair.id.hex(), pair.first == text_digest(row.answers[0])] for row, pair in zip(rows, pairs, strict=True)
    ]  # fmt: skip


def find(store: Store, name: str) -> Run | None:
    """The run of that id if people's preferences were imported in it."""
    if not name:
        return None
    run = store.run(name)
    return run if run.kind == KIND and store.document(DOCUMENT, run.id.hex()) is not None else None


def preferences(store: Store, run: Run) -> list[tuple[Id, bool]]:
    """What people preferred: comparison, and whether its first answer."""
    return [(bytes.fromhex(comparison), first) for comparison, first in store.document(DOCUMENT, run.id.hex())]
