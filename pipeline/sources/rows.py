"""Prompts, human preferences and unlabelled pairs in, from any file that `files.py` reads, in any shape of `shapes.py`.

Bad rows are all reported, by line or by the row's number, and left out only when asked. A prompt's split is given here,
once, and goes by its opening: dialogues that begin alike have one split, the most held out of those that a file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from constitution.errors import UserError
from constitution.records import Id, LabelRule, Messages, Prompt, Split, split_group, split_of
from pipeline.sources import annotated_pairs, files, shapes
from pipeline.sources.openings import HELD_OUT
from pipeline.sources.spool import Spool

Kind = Literal["prompts", "preferences", "pairs"]
MOST_SHOWN = 20
IN_SETTINGS = " (of a file that settings name, as of a flow: {path = ..., skip_bad = true} in precept.toml)"
MOST_KEPT = 10_000  # bad rows of a file of which nothing is taken anyway
HELD = 10_000  # prompts of a file that are held in memory


@dataclass(frozen=True)
class Imported:
    """A row that was read, or one pair of a ranking: the prompt, and for pairs its two answers. Of preferences the
    first is the better, with the probability `p`. `row`: which row of the file it is of, counted from 0."""

    prompt: Prompt
    answers: tuple[str, ...] = ()
    p: float = 1.0
    row: int = 0


@dataclass(frozen=True)
class Found:
    """What a file gave. `problems`: rows that cannot be used. `ties`: those, or pairs of a ranking, that prefer neither
    answer; each with its place and why. `tied`: their pairs. `moved`: rows whose split is that of another row that
    opens alike."""

    rows: list[Imported]
    problems: list[str] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)
    tied: list[Imported] = field(default_factory=list)
    moved: int = 0


def read_prompts(
    path: Path, *, heldout: float, dev: float, skip_bad: bool = False, names: Mapping[str, str] | None = None
) -> Sequence[Prompt]:
    """Prompts of a file, the first of those that repeat; of a long file not in memory. Raises UserError that lists bad
    rows by line."""
    spool, found, said = Spool(), Found([]), dict[str, Split]()
    for _ in _reading(found, said, path, "prompts", heldout, dev, skip_bad, names):
        for row in found.rows:
            spool.put(row.prompt, next(iter(said.values()), None))
        found.rows.clear()
        said.clear()
    _refuse(found, path, skip_bad, len(spool))
    prompts = spool.prompts()
    return list(prompts) if len(prompts) <= HELD else prompts


def read(
    path: Path,
    kind: Kind,
    *,
    heldout: float,
    dev: float,
    skip_bad: bool = False,
    names: Mapping[str, str] | None = None,
) -> Found:
    """Prompts, preferences (which answer is the better) or pairs (which nobody compared) of a file. `names`: columns of
    the file by the names that they have here.

    Raises UserError that lists bad rows by line, unless they are to be left out, and where there are no others.
    """
    found = Found([])
    said: dict[str, Split] = {}  # by opening, the split that some row gives it
    for _ in _reading(found, said, path, kind, heldout, dev, skip_bad, names):
        pass
    _refuse(found, path, skip_bad, len(found.rows))
    return _of_their_openings(found, said) if said else found


def _reading(
    found: Found,
    said: dict[str, Split],
    path: Path,
    kind: Kind,
    heldout: float,
    dev: float,
    skip_bad: bool,
    names: Mapping[str, str] | None,
) -> Iterator[None]:
    """Add what a file says to what was found, a row at a time."""
    shapes.check_names(names or {})
    if names:
        shapes.check_found(names, (row.value for row in files.rows(path) if not row.problem), path)
    for count, (where, row, problem) in enumerate(annotated_pairs.values(path, names)):
        try:
            if problem:
                raise ValueError(problem)
            _read(found, where, count, row, kind, path, said, heldout, dev)
        except ValueError as error:
            found.problems.append(f"{where}: {error}")
            if not skip_bad and len(found.problems) >= MOST_KEPT:
                return
        yield


def _refuse(found: Found, path: Path, skip_bad: bool, usable: int) -> None:
    if found.problems and not skip_bad:
        bad = found.problems
        more = f"\n... and {len(bad) - MOST_SHOWN} more" if len(bad) > MOST_SHOWN else ""
        raise UserError(
            "\n".join(bad[:MOST_SHOWN]) + more + "\nmend these rows, or leave them out with --skip-bad" + IN_SETTINGS
        )
    if not usable:
        why = f": {len(found.ties)} are ties, which prefer neither answer" if found.ties else ""
        raise UserError(f"{path} has no usable rows{why or '; docs/data.md has the shapes of rows'}")


def pair_kind(path: Path, names: Mapping[str, str] | None = None) -> Kind:
    """Whether a file holds preferences (some row says which answer is the better) or unlabelled pairs."""
    shapes.check_names(names or {})
    some = any(
        bool(row["annotator"]) if annotated_pairs.is_comparison(row) else shapes.is_preference(row)
        for _, row, _ in annotated_pairs.values(path, names)
    )
    return "preferences" if some else "pairs"


def unread_winner(path: Path, names: Mapping[str, str] | None = None) -> str:
    """Of a file of which `pair_kind` found pairs: what the first row says in a column of winners that is none of the
    words for one; empty where no row has such a column."""
    for row in files.rows(path):
        value = shapes.renamed(row.value, names or {})
        if isinstance(value, Mapping) and "a" in value and "b" in value:
            for name in ("winner", "label"):
                if value.get(name) not in (None, ""):
                    return f"{name} is {value[name]!r}"[:80]
    return ""


def agreed(rows: Sequence[Imported]) -> list[Imported]:
    """Preferences, each pair once, in the order of its first: `p` is the mean of what people said of it, the better
    first. Where that leaves less than the tie margin of the label rule between the two, the pair is left out."""
    said: dict[tuple[Id, str, str], list[float]] = {}
    first: dict[tuple[Id, str, str], Imported] = {}
    for row in rows:
        one, other = row.answers
        key = (row.prompt.id, min(one, other), max(one, other))
        said.setdefault(key, []).append(row.p if one == key[1] else 1 - row.p)
        first.setdefault(key, row)
    found = []
    for key, values in said.items():
        p = sum(values) / len(values)
        if abs(2 * p - 1) >= LabelRule().tie_margin and p != 0.5:
            answers = (key[1], key[2]) if p > 0.5 else (key[2], key[1])
            found.append(replace(first[key], answers=answers, p=max(p, 1 - p)))
    return found


def split_in(row: Mapping[str, Any]) -> Split | None:
    """The split that a row says it is of. Raises ValueError for a word that is none."""
    said = row.get("split")
    if said is None:
        return None
    if said not in get_args(Split):
        shown = repr(said)[:40] if isinstance(said, str | int | float) else f"a {type(said).__name__}"
        raise ValueError(f"'split' is one of {', '.join(get_args(Split))}, not {shown}; --map split= leaves it out")
    return cast(Split, said)


def openings(prompts: Iterable[Prompt]) -> dict[str, Split]:
    """The split of each opening, of those that prompts of this opening have the most held out."""
    found: dict[str, Split] = {}
    for prompt in prompts:
        _say(found, prompt.messages, prompt.split)
    return found


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() in (".gz", ".gzip") else path.stem


def _say(said: dict[str, Split], messages: Messages, split: Split) -> None:
    opening = split_group(messages)
    if HELD_OUT.index(split) <= HELD_OUT.index(said.get(opening, "train")):
        said[opening] = split


def _of_their_openings(found: Found, said: Mapping[str, Split]) -> Found:
    def of(row: Imported) -> Imported:
        split = said.get(split_group(row.prompt.messages), row.prompt.split)
        return row if split == row.prompt.split else replace(row, prompt=replace(row.prompt, split=split))

    rows = [of(row) for row in found.rows]
    moved = sum(one is not other for one, other in zip(rows, found.rows, strict=True))
    return replace(found, rows=rows, tied=[of(row) for row in found.tied], moved=moved)


def _principles(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of principles that a row names. Whether the constitution has them is not known here."""
    named = row.get("principles", ())
    named = (named,) if isinstance(named, str) else named
    if not isinstance(named, list | tuple) or not all(isinstance(id, str) and id for id in named):
        raise ValueError("'principles' is a list of ids of principles")
    return tuple(dict.fromkeys(named))


def naming(path: Path, ids: Set[str], names: Mapping[str, str] | None = None) -> list[str]:
    """Where the rows are that name one of these principles, with the one that they name."""
    found = []
    for where, row, problem in annotated_pairs.values(path, names):
        if problem or not isinstance(row, Mapping):
            continue
        try:
            found += [f"{where}: there is no principle {id!r}" for id in _principles(row) if id in ids]
        except ValueError:  # told of by whoever reads the rows
            continue
    return found


def _read(
    found: Found,
    where: str,
    count: int,
    row: Any,
    kind: Kind,
    path: Path,
    said: dict[str, Split],
    heldout: float,
    dev: float,
) -> None:
    """Add what a row says to what was found; raises ValueError, with nothing added, where it cannot be used."""
    if isinstance(row, str) and kind == "prompts":
        row = {"prompt": row}
    if annotated_pairs.is_comparison(row):
        row = annotated_pairs.as_ours(row)
        if kind == "preferences" and "winner" not in row:
            raise ValueError(annotated_pairs.NO_ANNOTATOR)
    if not isinstance(row, dict):
        raise ValueError("a row is an object with the key 'prompt'")
    tags = row.get("tags", ())
    tags = (tags,) if isinstance(tags, str) else tags
    if not isinstance(tags, (list, tuple)) or not all(isinstance(t, str) for t in tags):
        raise ValueError("'tags' is a list of strings")
    principles = _principles(row)
    split = split_in(row)
    source = row.get("source")
    source = str(source) if source and isinstance(source, str | int) else _stem(path)
    if kind == "prompts":
        pairs = shapes.Pairs((shapes.Pair(shapes.prompt(row), "", ""),))
    else:
        pairs = shapes.preferences(row) if kind == "preferences" else shapes.pairs(row)
    if pairs.tied:
        found.ties.append(f"{where}: {len(pairs.tied)} of its pairs are ties" if pairs.pairs else f"{where}: a tie")
    for pair, rows in (*((pair, found.rows) for pair in pairs.pairs), *((pair, found.tied) for pair in pairs.tied)):
        if split is not None:
            _say(said, pair.prompt, split)
        prompt = Prompt(pair.prompt, split or split_of(pair.prompt, heldout, dev), source, tuple(tags), principles)
        answers = () if kind == "prompts" else (pair.first, pair.second)
        rows.append(Imported(prompt, answers, pair.p, count))
