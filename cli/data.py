"""`precept data import | export | suite`: prompts, preferences and pairs into the store, what a run labelled out of it,
and suites for other tools."""

from __future__ import annotations

import glob
import json
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Map, RunId, SettingsFile, load, names_of, store_of
from cli.screen import put, put_json, tell
from service.actions.data_files import Format, Split
from service.actions.imports import What


class SuiteFormat(StrEnum):
    inspect = "inspect"


app = typer.Typer(no_args_is_help=True, help="Data sets: bring rows in, write labels and suites out.")


@app.command("import")
def import_(
    what: Annotated[What, typer.Argument(help="What the rows are.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, JSON, CSV or Parquet; also as .gz.")],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be used.")] = False,
    map_: Map = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Bring in prompts (`prompt`), preferences (`prompt`, `chosen`, `rejected`) or pairs (`prompt`, `a`, `b`).

    A prompt or an answer is a string or a list of messages; docs/data.md has the other shapes. Rows that cannot be used
    are told of by line.

    Example: precept data import preferences people.csv --map prompt=question --skip-bad
    """
    from service.actions.imports import bring_in

    loaded, names = load(settings), names_of(map_)
    with store_of(loaded) as store:
        kept = bring_in(store, what, file, loaded.splits, skip_bad, names)
    for problem in kept.problems:
        tell(f"skipped {problem}")
    for tie in kept.ties:
        tell(f"left out {tie}")
    if as_json:
        put_json(kept.as_dict())
        return
    put(", ".join(f"{count} {name}" for name, count in kept.stored.items()) + f" from {file}")
    put(f"prompts by split: {_counts(kept.splits)}; rows by split: {_counts(kept.rows)}")
    if kept.problems or kept.ties:
        put(f"left out: {len(kept.problems)} rows that cannot be used, {len(kept.ties)} with ties")
    if kept.moved:
        put(f"{kept.moved} have the split of a prompt that opens alike")
    if what is What.prompts:
        put(f"to run on them: precept improve --set {shlex.quote(_setting(file, names))}")
    else:
        put(f"to see them as a data set: precept data export --run {kept.run[:12]} OUT.jsonl")


def _setting(file: Path, names: Mapping[str, str]) -> str:
    """The setting `prompts` that reads the same."""
    if not names:
        return f"prompts={file}"
    columns = ", ".join(f"{ours} = {json.dumps(theirs)}" for ours, theirs in names.items())
    return f"prompts={{path = {json.dumps(str(file))}, map = {{{columns}}}}}"


def _counts(by_split: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in by_split.items() if count)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .jsonl, .parquet or .csv file; its card goes beside.")],
    format: Annotated[Format, typer.Option(help="TRL's data set formats.")] = Format.preference,
    run: RunId = "",
    split: Annotated[Split, typer.Option(help="Held-out prompts are for measuring, not for training.")] = Split.train,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Write what a run labelled (or what was imported) as a data set in TRL's columns, with a card.

    Example: precept data export --format preference exports/pairs.parquet
    """
    from service.actions.data_files import check_name
    from service.actions.exports import export as write

    check_name(out)
    with store_of(load(settings)) as store:
        done = write(store, out, run, format, split)
    if as_json:
        put_json(done.as_dict())
        return
    put(f"{out}: {done.rows} rows")
    for why, count in done.left_out.items():
        if count:
            put(f"  left out: {count} {why}")
    put(f"{done.card}: what is in it, and how it came about")
    if glob.escape(str(out)) != str(out):
        put(f"`datasets` reads names as patterns: by itself it is data_files={glob.escape(str(out))!r}")


@app.command()
def suite(
    name: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or capability:FILE, xstest:FILE.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write the task and its samples to.")],
    format: Annotated[SuiteFormat, typer.Option(help="Whose task it is.")] = SuiteFormat.inspect,
    as_json: Json = False,
) -> None:
    """Write a suite as a task of another evaluation tool's: a file that needs nothing of precept, and its samples.

    Example: precept data suite capability tasks
    """
    from pipeline.suites import inspecting

    done = inspecting.write(name, out)
    if as_json:
        put_json(done.as_dict())
        return
    put(f"{done.task}: {done.count} samples, in {done.samples}")
    put("to run it, where inspect-ai is installed and `precept model serve` runs:")
    put(f"  PRECEPT_BASE_URL=http://127.0.0.1:8000/v1 PRECEPT_API_KEY=none inspect eval {done.task} \\")
    put("    --model openai-api/precept/MODEL")
