"""Pairs whose better answer is known, for the trial of a judge: rows of ours, and the files of public sets as they are
published.

    read("pairs.jsonl")                        whichever shape each row has
    read("testset-v1.json", "pandalm")         this shape and no other
    found("pairs.csv", names={"better": "good"}).ties

`FORMATS` has the shapes. What prefers neither answer (a tie, annotators who do not agree, the same pair both ways
round) is left out and counted. Several correct answers of one prompt are not made into all their pairs, which would let
one prompt outweigh a file: each answer stands in one pair, or in as few as there can be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Id, Messages, dialogue_id
from pipeline.sources import annotated_pairs, files, shapes
from pipeline.sources.rows import IN_SETTINGS, MOST_SHOWN

OURS = ("better", "worse", "principle")  # columns that only rows of known pairs have
FIRSTS = {"llmbar": "output_1", "pandalm": "response1", "annotated_pairs": "response_a", "preferences": "a"}


@dataclass(frozen=True, slots=True)
class KnownPair:
    """Two answers to a dialogue, the better one known. `principle`: the id of the principle under which it is the
    better one, empty where it is so in all. `tags`: what the file says of it, as the subset. `source`: which set it is
    of."""

    messages: Messages
    better: str
    worse: str
    principle: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Found:
    """What a file gave. `ties`: rows that prefer neither answer, `problems`: rows that cannot be used; each with its
    place and why."""

    pairs: list[KnownPair]
    ties: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


Row = Mapping[str, Any]
Said = Iterator[KnownPair | str]  # a pair, or why a row (or a part of it) prefers neither answer


def read(path: Path | str, format: str = "") -> list[KnownPair]:
    """The known pairs of a file. Raises UserError that lists bad rows by line, and where there is no pair."""
    return found(path, format).pairs


def found(
    path: Path | str, format: str = "", *, names: Mapping[str, str] | None = None, skip_bad: bool = False
) -> Found:
    """The known pairs of a file, and what it has besides. `format`: one of `FORMATS`, or empty for what each row looks
    like. `names`: columns of the file by the names that they have here.

    Raises UserError for a format that is none, for bad rows (by line) unless they are to be left out, and where there
    is no pair.
    """
    path, names = Path(path), names or {}
    if format and format not in FORMATS:
        raise UserError(f"there is no format {format!r} of known pairs; there are {', '.join(FORMATS)}")
    if str(path) in FORMATS and not path.exists():
        raise UserError(
            f"{path} is a format of known pairs, and there is no file of that name: name the file, as "
            f'--pairs FILE --format {path}, or in the settings {{path = "FILE", format = "{path}"}}'
        )
    shapes.check_names(names, OURS)
    if names:
        shapes.check_found(names, (row.value for row in files.rows(path) if not row.problem), path)
    result = Found([])
    for where, one, problem in annotated_pairs.values(path, names):
        try:
            if problem:
                raise ValueError(problem)
            said = list(_said(one, format, path))
            result.pairs.extend(pair for pair in said if isinstance(pair, KnownPair))
            result.ties.extend(f"{where}: {why}" for why in said if isinstance(why, str))
        except ValueError as error:
            result.problems.append(f"{where}: {error}")
    if not skip_bad:
        refuse(result.problems, f"{IN_SETTINGS}; docs/data.md has the shapes of known pairs")
    result = _once(result, path)
    if not result.pairs:
        why = f": {len(result.ties)} rows prefer neither answer" if result.ties else ""
        raise UserError(f"{path} has no pair whose better answer is known{why}; docs/data.md has the shapes of rows")
    return result


def refuse(problems: Sequence[str], more: str) -> None:
    """Raise UserError that lists bad rows, where there are any. `more`: what else there is to say of them."""
    if problems:
        beyond = f"\n... and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        listed = "\n".join(problems[:MOST_SHOWN])
        raise UserError(f"{listed}{beyond}\nmend these rows, or leave them out with --skip-bad{more}")


def of_row(row: Any, format: str, path: Path) -> KnownPair:
    """The one known pair of a row. Raises ValueError where it has none, or several."""
    found = _said(row, format, path)
    said = [one for one in found if isinstance(one, KnownPair)]
    if len(said) != 1:
        why = next((f": {one}" for one in found if isinstance(one, str)), "")
        raise ValueError(
            f"the row has {len(said)} pairs whose better answer is known, and should have one"
            if said
            else f"the row has no pair whose better answer is known{why}"
        )
    return said[0]


def better_is_first(row: Row, format: str, pair: KnownPair) -> bool | None:
    """Whether the better answer is the first as the row has them; None where it has no order but better and worse."""
    column = FIRSTS.get(format or _format(row), "")
    if column not in row or "chosen" in row or "rejected" in row:
        return None
    held = row[column]
    if column == "a":
        held = shapes.answer(held, column)[1]  # it may be a whole dialogue
    return bool((held.get("text") if isinstance(held, Mapping) else held) == pair.better)


def _format(row: Row) -> str:
    return next((name for name, (known, _) in FORMATS.items() if known(row)), "")


def _once(result: Found, path: Path) -> Found:
    """Each pair once, and none that the file has both ways round."""
    first: dict[tuple[Id, str, str, str], KnownPair] = {}
    for pair in result.pairs:
        first.setdefault((dialogue_id(pair.messages), pair.better, pair.worse, pair.principle), pair)
    opposed = {key for key in first if (key[0], key[2], key[1], key[3]) in first}
    ties = result.ties + [f"{path}: a pair is there both ways round"] * (len(opposed) // 2)
    return Found([pair for key, pair in first.items() if key not in opposed], ties, result.problems)


def _said(row: Any, format: str, path: Path) -> list[KnownPair | str]:
    if not isinstance(row, dict):
        raise ValueError("a row of known pairs is an object")
    name = format or _format(row)
    if not name:
        raise ValueError(shapes.missing(row, "better"))
    known, reader = FORMATS[name]
    if not known(row):
        raise ValueError(f"the row is not of the format {name!r} (it has {', '.join(map(repr, list(row)[:6]))})")
    source = row.get("source")
    source = str(source) if source and isinstance(source, str | int) else path.name.split(".")[0]
    given: list[KnownPair | str] = []
    for one in reader(row):
        if isinstance(one, KnownPair):
            if not one.better.strip() or not one.worse.strip():
                raise ValueError("an answer is empty")
            if one.better == one.worse:
                raise ValueError("the better and the worse answer are the same text")
            if one.messages[-1].role != "user":
                raise ValueError("a prompt ends in a user's turn")
            one = KnownPair(one.messages, one.better, one.worse, one.principle, one.tags or _tags(row), source)
        given.append(one)
    return given


def _tags(row: Row) -> tuple[str, ...]:
    tags = row.get("tags", ())
    tags = (tags,) if isinstance(tags, str) else tags
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("'tags' is a list of strings")
    return tuple(tags)


# --- the shapes --------------------------------------------------------------------------------------------------


def _ours(row: Row) -> Said:
    """`prompt`, `better`, `worse`, and where they are there `principle` and `tags`."""
    principle = row.get("principle", "")
    if not isinstance(principle, str):
        raise ValueError("'principle' is the id of a principle")
    renamed = {name: held for name, held in row.items() if name not in ("p", "score_chosen", "score_rejected")}
    for pair in shapes.chosen(renamed, "better", "worse").pairs:
        yield KnownPair(pair.prompt, pair.first, pair.second, principle)


def _llmbar(row: Row) -> Said:
    """LLMBar: `input`, `output_1`, `output_2`, and `label`, 1 or 2."""
    one, other, label = shapes.text(row, "output_1"), shapes.text(row, "output_2"), row.get("label")
    if str(label) not in ("1", "2"):
        raise ValueError(f"'label' is 1 or 2, not {str(label)[:20]!r}")
    better, worse = (one, other) if str(label) == "1" else (other, one)
    yield KnownPair(shapes.messages(shapes.text(row, "input"), "input"), better, worse)


def _hhh(row: Row) -> Said:
    """HHH, as BIG-bench has it (`target_scores`, by answer) or as a table (`targets`: `choices` and `labels`)."""
    scores = row.get("target_scores")
    if scores is None:
        held = row.get("targets")
        choices = held.get("choices") if isinstance(held, dict) else None
        labels = held.get("labels") if isinstance(held, dict) else None
        if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
            raise ValueError("'targets' has 'choices' and as many 'labels'")
    else:
        if not isinstance(scores, dict):
            raise ValueError("'target_scores' gives each answer its score")
        choices, labels = list(scores), list(scores.values())
    if not all(isinstance(choice, str) for choice in choices):
        raise ValueError("an answer has to be a text")
    rated = [shapes.number(label, "the score of an answer") for label in labels]
    best = max(rated, default=0.0)
    good = [choice for choice, score in zip(choices, rated, strict=True) if score == best]
    bad = [choice for choice, score in zip(choices, rated, strict=True) if score < best]
    said = shapes.text(row, "input")
    turns = f"\n\nHuman: {said}\n\nAssistant:" if "\n\nAssistant:" in said else said
    if not bad:
        yield "all its answers are scored alike"
    for better, worse in _few(good, bad):
        yield KnownPair(shapes.messages(turns, "input"), better, worse)


def _rewardbench2(row: Row) -> Said:
    """RewardBench 2: `prompt`, `chosen` and `rejected`, a list each, and `subset`. Of `Ties` several are correct."""
    good, bad = row["chosen"], row["rejected"]
    for name, texts in (("chosen", good), ("rejected", bad)):
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"{name!r} has to be a list of texts")
    subset = row.get("subset", "")
    for better, worse in _few(good, [text for text in bad if text not in good]):
        messages = shapes.prompt({"prompt": row.get("prompt", "")})
        yield KnownPair(messages, better, worse, tags=(str(subset),) if subset else ())


def _few(good: Sequence[str], bad: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a good and a bad answer in which each stands at least once, as few as there can be."""
    if not good or not bad:
        return []
    return [(good[at % len(good)], bad[at % len(bad)]) for at in range(max(len(good), len(bad)))]


def _pandalm(row: Row) -> Said:
    """PandaLM: `instruction`, `input`, `response1`, `response2` and annotators that say 1, 2 or 0 (a tie)."""
    votes = Counter(str(held) for name, held in row.items() if name.startswith("annotator"))
    if not votes or votes.keys() - {"0", "1", "2"}:
        raise ValueError("an annotator says 1, 2 or 0 (neither)")
    given = row.get("input")
    if isinstance(given, float) and math.isnan(given):  # as the published file has an input that is not there
        given = ""
    asked = {"instruction": row.get("instruction"), "input": "" if given is None else given}
    messages = shapes.prompt(asked)
    one, other = shapes.text(row, "response1"), shapes.text(row, "response2")
    most = [said for said, count in votes.items() if 2 * count > sum(votes.values())]
    if not most or most == ["0"]:
        yield "its annotators prefer neither answer, or do not agree"
    elif one == other:
        yield "both answers are the same text"
    else:
        yield KnownPair(messages, *((one, other) if most == ["1"] else (other, one)))


def _annotated_pairs(row: Row) -> Said:
    """A comparison of annotated pairs, version 2: `response_a`, `response_b`, and of `annotations` the default one."""
    ours = annotated_pairs.as_ours(row)
    if "winner" not in ours:
        raise ValueError(annotated_pairs.NO_ANNOTATOR)
    texts, preferred = (ours["a"], ours["b"]), ours["winner"]
    messages = shapes.prompt({"prompt": ours["prompt"]})
    if preferred == "tie":
        yield "its default annotator prefers neither answer"
    elif texts[0] == texts[1]:
        yield "both answers are the same text"
    else:
        yield KnownPair(messages, texts[preferred == "b"], texts[preferred == "a"])


def _preferences(row: Row) -> Said:
    """Any preference of docs/data.md: `chosen` and `rejected` (hh-rlhf), `a`, `b` and their `label`, a ranking."""
    found = shapes.preferences(row)
    if found.tied and not found.pairs:
        yield "a tie"
    for pair in found.pairs:
        yield KnownPair(pair.prompt, pair.first, pair.second)


def _lists(row: Row) -> bool:
    return isinstance(row.get("chosen"), list) and all(isinstance(one, str) for one in row["chosen"])


FORMATS: Mapping[str, tuple[Callable[[Row], bool], Callable[[Row], Said]]] = {
    "pairs": (lambda row: "better" in row or "worse" in row, _ours),
    "llmbar": (lambda row: "output_1" in row and "output_2" in row, _llmbar),
    "hhh": (lambda row: "target_scores" in row or ("targets" in row and "input" in row), _hhh),
    "pandalm": (lambda row: "response1" in row and "response2" in row, _pandalm),
    "annotated_pairs": (annotated_pairs.is_comparison, _annotated_pairs),
    "rewardbench2": (lambda row: _lists(row) and isinstance(row.get("rejected"), list), _rewardbench2),
    "hh": (lambda row: "chosen" in row and "rejected" in row, _preferences),
    "preferences": (shapes.is_preference, _preferences),
}
