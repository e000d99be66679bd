"""What a model knows and can do, by questions with known answers: which of the choices it holds likeliest.

Nothing is generated: each choice is scored as the answer to its question (`Score`, with the end of its turn, so that
the beginning of a longer answer is not counted as one), as lm-eval does it with multiple choice, in the model's own
chat. `right` is by the log-probability itself, `right_by_length` by that of a byte, where long choices are not at a
disadvantage (lm-eval's acc and acc_norm). 120 questions ship (`capability`); `capability:FILE` reads a JSONL file of
yours, a line each:

    {"question": "What do bees make?", "choices": ["Honey", "Milk"], "answer": 0}

`answer`: a place, counted from 0, or one of the choices. `kind`, where there is one, only sorts them.

The gate asks that `right` did not fall by more than `falls`, by what was measured, and says what its interval does not
rule out. It fails where that is not known: fewer than `items` questions, or a model that was no better than guessing
before, which has nothing to lose. `falls = 1` asks nothing. How often it is wrong: `python -m benchmarks.capability`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import fsum
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from constitution.records import Message
from pipeline.asking import Role
from pipeline.engines.engine import Refused, Score
from pipeline.judges.judge import Used
from pipeline.metrics import words
from pipeline.suites.suite import Condition, Evidence, Figure, Item

TITLE = "What it knows and can do"
ONLY_NAMED = True
LIMITS: Mapping[str, Any] = {"falls": 0.05, "items": 100}
MOST = 26  # choices of a question

_SHIPPED = Path(__file__).parent / "items" / "capability.jsonl"


def items() -> Sequence[Item]:
    """Those that ship."""
    return read(_SHIPPED)


def measure(evidence: Evidence) -> list[Figure]:
    """`right`, `right_by_length`, and `guessing`: the share that guessing would give, which is no model's."""
    figures = []
    for name, title, by_length in (
        ("right", "The right choice is the likeliest", False),
        ("right_by_length", "... of them by the byte", True),
    ):
        before, after = (
            [_right(item, logs, by_length) for item, logs in zip(evidence.items, side, strict=True)]
            for side in evidence.choices
        )
        figures.append(evidence.figure(name, title, before, after, better="higher"))
    guessed = [1 / len(item.choices) for item in evidence.items]
    figures.append(evidence.figure("guessing", "Of these guessing would hit", guessed, guessed))
    return figures


def _right(item: Item, logs: Sequence[float] | None, by_length: bool) -> float | None:
    """None of a question that the model could not be asked. What two choices share is right for neither alone."""
    if logs is None:
        return None
    values = [
        log / max(1, len(choice.encode("utf-8", "replace"))) if by_length else log
        for log, choice in zip(logs, item.choices, strict=True)
    ]
    best = [place for place, value in enumerate(values) if value == max(values)]
    return float(item.answer in best) / len(best)


def conditions(figures: Mapping[str, Figure], limits: Mapping[str, Any]) -> list[Condition]:
    most = float(limits["falls"])
    return [] if most >= 1 else [_condition(figures["right"], figures["guessing"], most, int(limits["items"]))]


def _condition(figure: Figure, guessing: Figure, most: float, needed: int) -> Condition:
    leave = "or leave the condition out: falls = 1 among the limits of the suite (gate.suites)"
    unknown = "whether an ability was lost is not known"
    if figure.change is None or figure.before is None or figure.n < needed:
        return Condition(False, f"{unknown}: {figure.n} questions are too few, {needed} are needed, {leave}")
    chance = guessing.before.mean if guessing.before else 0.0
    if not figure.before.low > chance:
        return Condition(
            False,
            f"{unknown}: the model before was right on {words.percent(figure.before.mean)} of {figure.n} questions, "
            f"which is not above guessing ({words.percent(chance)}); ask easier ones, {leave}",
        )
    mean, allowed = figure.change.mean, f"the {100 * most:g} allowed"
    held = mean >= -most - 1e-9
    said = f"right answers {words.moved(mean)} on {figure.n} questions ({words.in_points(figure.change.as_dict())})"
    if mean < 0:
        said += f", {'within' if held else 'more than'} {allowed}"
    if held and figure.change.low < -most:
        said += f"; a loss of {words.points(figure.change.low)} is not ruled out"
    return Condition(held, said)


# --- questions -------------------------------------------------------------------------------------------------------


@cache
def _read(path: Path, changed: int) -> tuple[Item, ...]:
    found: list[Item] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: questions with choices cannot be read there: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_item(json.loads(line)))
            except (ValueError, RecursionError, UserError) as error:
                why = str(error) if isinstance(error, UserError) else "no JSON"
                raise UserError(
                    f"{path}, line {number}: {why}; a line is "
                    '{"question": "What do bees make?", "choices": ["Honey", "Milk"], "answer": 0}'
                ) from None
    if not found:
        raise UserError(f"{path} has no question")
    if len({(item.question, item.choices) for item in found}) < len(found):
        raise UserError(f"{path} has a question twice, which would count as two")
    return tuple(found)


def read(path: Path) -> tuple[Item, ...]:
    """The questions of a file. Raises UserError with the line that is none."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _read(path, changed)


def _item(row: Any) -> Item:
    if not isinstance(row, dict):
        raise UserError("it is no object")
    question, choices, answer = row.get("question"), row.get("choices"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise UserError("it has no question")
    if not isinstance(choices, list) or not all(isinstance(c, str) and c.strip() for c in choices):
        raise UserError("its choices are no list of texts")
    if not 2 <= len(choices) <= MOST or len(set(choices)) < len(choices):
        raise UserError(f"it has {len(choices)} choices; there are 2 to {MOST}, no two alike")
    if isinstance(answer, str) and answer in choices:
        answer = choices.index(answer)
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise UserError(f"its answer is none of its choices, nor a place from 0 to {len(choices) - 1}")
    kind = row.get("kind", "")
    return Item(question, tuple(choices), answer, kind if isinstance(kind, str) else "")


@dataclass(frozen=True)
class OfFile:
    """What the module of a suite has, of a file of the user's."""

    path: Path
    TITLE = TITLE
    LIMITS = LIMITS

    def items(self) -> Sequence[Item]:
        return read(self.path)

    def measure(self, evidence: Evidence) -> list[Figure]:
        return measure(evidence)

    def conditions(self, figures: Mapping[str, Figure], limits: Mapping[str, Any]) -> list[Condition]:
        return conditions(figures, limits)


def suite(name: str) -> OfFile:
    """The suite of `capability:PATH`. Raises UserError where the file has no questions."""
    found = OfFile(Path(name.partition(":")[2]))
    found.items()
    return found


# --- asking ----------------------------------------------------------------------------------------------------------


def requests(items: Sequence[Item]) -> int:
    return sum(len(item.choices) for item in items)


def scored(role: Role, items: Sequence[Item]) -> tuple[list[tuple[float, ...] | None], Used]:
    """By item, the log-probability of each choice as the whole answer; None where the model could not read one. Raises
    UserError of an engine that cannot score."""
    if not role.engine.capabilities.score:
        raise UserError(
            "the suite capability needs the likelihood of whole answers, which this server does not show; use vLLM, "
            "`precept model serve` or the transformers engine, or leave the suite out"
        )
    asked = [
        Score(role.chat((Message("user", item.question),)), choice, end=True)
        for item in items
        for choice in item.choices
    ]
    answered = iter(role.engine.score(asked))
    found: list[tuple[float, ...] | None] = []
    tokens = 0
    for item in items:
        logs = [next(answered) for _ in item.choices]
        known = [one for one in logs if not isinstance(one, Refused)]
        tokens += int(fsum(one.prompt_tokens for one in known))
        found.append(tuple(one.logprob for one in known) if len(known) == len(logs) else None)
    return found, Used(len(asked), tokens)
