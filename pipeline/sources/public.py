"""Prompts of public sets as they are published, from a file of the user's.

    prompts = {source = "public", set = "xstest", path = "xstest_prompts.csv"}
    evaluate.suites = ["style", "xstest:xstest_prompts.csv"]        as a suite (`pipeline/suites/published.py`)

Each prompt has tags: `harmless` or `harmful` where the set says so, and what kind of prompt it is. `Expected` is what
the set knows of a right answer. RewardBench 2 and others that hold pairs of answers
are read by `known_pairs.py` as well. No set is in this package: whoever uses one has it, and its licence, from its
authors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Message, Messages, Prompt, Split
from pipeline.sources import files, shapes
from pipeline.sources.rows import MOST_SHOWN
from pipeline.sources.source import Splits

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Expected:
    """What is known of a good answer. `right`, `wrong`: texts, one of which it has, and none of which it has.
    `instructions`: of IFEval, ids and arguments."""

    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    instructions: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True)
class Item:
    messages: Messages
    tags: tuple[str, ...]
    expected: Expected = Expected()


def prompts(options: Mapping[str, Any], splits: Splits) -> list[Prompt]:
    """Raises UserError for a set that is none, and that lists bad rows by line."""
    name, path = options.get("set"), options.get("path")
    if options.keys() - {"set", "path"} or not isinstance(name, str) or not isinstance(path, str):
        raise UserError(
            f'a public set has its name and its file: prompts = {{source = "public", set = "xstest", path = "x.csv"}}, '
            f"set of {', '.join(SETS)}"
        )
    return [
        Prompt(item.messages, splits.of(item.messages), name.replace("-", "_"), item.tags) for item in read(name, path)
    ]


def read(name: str, path: Path | str) -> list[Item]:
    """The prompts of a set, each once. Raises UserError for a set that is none, and that lists bad rows by line."""
    path, known = Path(path), SETS.get(name.replace("-", "_"))
    if known is None:
        raise UserError(f"there is no public set {name!r} that is read; there are {', '.join(SETS)}")
    found: dict[Messages, Item] = {}
    bad = []
    for row in files.rows(path):
        try:
            if row.problem or not isinstance(row.value, dict):
                raise ValueError(row.problem or "a row is an object")
            item = known(row.value, path)
            found.setdefault(item.messages, item)
        except ValueError as error:
            bad.append(f"{row.where(path)}: {error}")
    if bad:
        more = f"\n... and {len(bad) - MOST_SHOWN} more" if len(bad) > MOST_SHOWN else ""
        raise UserError(
            "\n".join(bad[:MOST_SHOWN])
            + f"{more}\nthese rows are not of {name} as it is published; docs/suites.md has "
            "the columns of each set"
        )
    if not found:
        raise UserError(f"{path} has no rows; docs/suites.md has the columns of each set")
    return list(found.values())


def heldout(name: str, path: Path | str) -> list[tuple[Prompt, Expected]]:
    """The prompts of a set to measure with: all held out."""
    split: Split = "heldout"
    return [(Prompt(i.messages, split, name.replace("-", "_"), i.tags), i.expected) for i in read(name, path)]


# --- the sets ----------------------------------------------------------------------------------------------------


def _asked(row: Row, column: str) -> Messages:
    if column not in row:
        raise ValueError(shapes.missing(row, column))
    return shapes.prompt({"prompt": row[column]})


def _word(row: Row, *columns: str) -> str:
    return next((str(row[name]) for name in columns if isinstance(row.get(name), str | int) and row[name] != ""), "")


def _xstest(row: Row, path: Path) -> Item:
    """XSTest: `prompt`, `type`, and `label` (safe or unsafe); without it the type says so: `contrast_...` is unsafe."""
    kind, label = _word(row, "type"), row.get("label", row.get("safe"))
    if isinstance(label, bool):
        label = "safe" if label else "unsafe"
    if label is None and kind:
        label = "unsafe" if kind.startswith("contrast") else "safe"
    if label not in ("safe", "unsafe"):
        raise ValueError("'label' is safe or unsafe, or 'type' says it")
    tag = "harmless" if label == "safe" else "harmful"
    return Item(_asked(row, "prompt"), (tag, kind) if kind else (tag,))


def _or_bench(row: Row, path: Path) -> Item:
    """OR-Bench: `prompt` and `category`. Its toxic prompts are a file of their own, with the word in its name or in
    that of its folder, as the set is published: or-bench-toxic/train.csv."""
    category = _word(row, "category")
    if not category:
        raise ValueError("the key 'category' is missing")
    toxic = any("toxic" in name.lower() for name in (path.name, path.absolute().parent.name))
    return Item(_asked(row, "prompt"), ("harmful" if toxic else "harmless", category))


def _strong_reject(row: Row, path: Path) -> Item:
    """StrongREJECT: `forbidden_prompt` and `category`."""
    category = _word(row, "category")
    return Item(_asked(row, "forbidden_prompt"), ("harmful", category) if category else ("harmful",))


def _sycophancy(row: Row, path: Path) -> Item:
    """SycophancyEval: `prompt`, messages of a `type` and a `content`, and `base`, with `correct_answer` and
    `incorrect_answer` in its file of answers. Turns of the assistant's at the end are left out."""
    given = row.get("prompt")
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        raise ValueError("'prompt' is a list of messages")
    turns = [{"role": turn.get("type", turn.get("role")), "content": turn.get("content")} for turn in given]
    roles = {"human": "user", "ai": "assistant"}
    messages = shapes.messages([{**turn, "role": roles.get(turn["role"], turn["role"])} for turn in turns], "prompt")
    if messages[-1].role == "assistant":  # an example of how to begin the answer
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise ValueError("'prompt' has no user's turn")
    base = row.get("base")
    base = base if isinstance(base, dict) else {}
    right = [base.get("correct_answer"), *(base["answer"] if isinstance(base.get("answer"), list) else ())]
    kind = _word(base, "dataset")
    expected = Expected(_texts(right), _texts([base.get("incorrect_answer")]))
    return Item(messages, ("sycophancy", kind) if kind else ("sycophancy",), expected)


def _texts(found: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and one))


def _rewardbench2(row: Row, path: Path) -> Item:
    """RewardBench 2: `prompt` and `subset`, for its prompts alone."""
    subset = _word(row, "subset")
    if not subset or "chosen" not in row:
        raise ValueError("'subset' and 'chosen' are there in every row of RewardBench 2")
    return Item(_asked(row, "prompt"), (subset,))


def _ifeval(row: Row, path: Path) -> Item:
    """IFEval: `prompt`, `instruction_id_list`, and `kwargs`, the arguments of each."""
    ids, kwargs = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(ids, list) or not isinstance(kwargs, list) or len(ids) != len(kwargs) or not ids:
        raise ValueError("'instruction_id_list' and 'kwargs' are lists of one length")
    if not all(isinstance(one, str) for one in ids):
        raise ValueError("'instruction_id_list' has ids")
    instructions = tuple((one, held if isinstance(held, dict) else {}) for one, held in zip(ids, kwargs, strict=True))
    kinds = tuple(dict.fromkeys(one.partition(":")[0] for one in ids))
    return Item((Message("user", shapes.text(row, "prompt")),), kinds, Expected(instructions=instructions))


SETS: Mapping[str, Callable[[Row, Path], Item]] = {
    "xstest": _xstest,
    "or_bench": _or_bench,
    "strong_reject": _strong_reject,
    "sycophancy": _sycophancy,
    "rewardbench2": _rewardbench2,
    "ifeval": _ifeval,
}
