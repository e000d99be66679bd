"""`precept import`: prompts, human preferences and unlabelled pairs into the store.

What is imported is a run of its own (kind `import`), so that it is kept, can be listed and can be exported again. The
same file twice is one import. What people preferred is a document of that run; it is evidence about answers, not a
spot check: nobody of ours saw the pair blind.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Json, SettingsFile, load, store_of
from cli.screen import put, put_json, tell

if TYPE_CHECKING:
    from constitution.records import Comparison, Id
    from pipeline.prompts import Imported
    from storage.runs import Run
    from storage.store import Store

KIND = "import"
PAIRS = "pairs"
DOCUMENT = "preferences"


class What(StrEnum):
    prompts = "prompts"
    preferences = "preferences"
    pairs = "pairs"


def import_(
    what: Annotated[What, typer.Argument(help="What the rows are.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL or Parquet.")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be used.")] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Bring in prompts (`prompt`), preferences (`prompt`, `chosen`, `rejected`) or pairs (`prompt`, `a`, `b`).

    A prompt or an answer is a string or a list of messages. Rows that cannot be used are told of by line.

    Example: precept import preferences people.jsonl --skip-bad
    """
    from pipeline.prompts import read_rows

    loaded = load(settings)
    splits, problems = loaded.splits, list[str]()
    rows = read_rows(
        file, what.value, heldout=splits.heldout, dev=splits.dev, skip_bad=skip_bad, problems=problems
    )  # fmt: skip
    with store_of(loaded) as store:
        found = keep(store, what, file, rows) | {"skipped": len(problems)}
    for problem in problems:
        tell(f"skipped {problem}")
    if as_json:
        put_json(found)
        return
    put(", ".join(f"{count} {name}" for name, count in found["stored"].items()) + f" from {file}")
    put(f"prompts by split: {', '.join(f'{count} {name}' for name, count in found['splits'].items() if count)}")
    if what is What.prompts:
        put(f"to run on them: precept improve --set prompts={file}")
    else:
        put(f"to see them as a data set: precept export --run {found['run'][:12]} OUT.jsonl")


def keep(store: Store, what: What, file: Path, rows: Sequence[Imported]) -> dict[str, Any]:
    """Store what was read, as a run that is finished; returns what the command prints."""
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
