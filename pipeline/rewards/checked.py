"""What stands between a reward and whoever trains on it: every number is looked at, then shaped.

A reward that returns too few numbers, a NaN or a text would otherwise train for hours on nonsense. Shaping is the same
for every kind:

    reward - length_slope * (length - length_mean) - length_penalty * length / 100

with the length of the answer in characters. The slope is that of the reward on length, measured on the reference set
of the reward model (`length_slope` and `length_mean` in its metrics): what is left does not grow with length there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from constitution.errors import UserError
from pipeline.engines.engine import EngineError
from pipeline.rewards.options import Options
from pipeline.rewards.reward import Dialogue, Reward

MANY = 1_000  # rewards more than answers, after which nobody counts
SHOWN = 60  # characters of a prompt or an answer in a message


class Shaping(Options):
    """The keys that every kind of reward may have. `length_penalty`: reward units for 100 characters."""

    length_penalty: float = Field(0.0, ge=0)
    length_controlled: bool = False
    length_slope: float | None = None  # reward units a character; none: the reward model's own

    @model_validator(mode="after")
    def _slope_is_used(self) -> Self:
        if self.length_slope is not None and not self.length_controlled:
            raise ValueError("length_slope does nothing unless length_controlled is true")
        return self


@dataclass(frozen=True)
class LengthLine:
    """What is subtracted for length: reward units a character, from a mean of so many characters."""

    slope: float = 0.0
    mean: float = 0.0


class Checked:
    """A `Reward` whose numbers are one for each answer, finite, and shaped. `inner` is what it was built around."""

    def __init__(self, inner: Reward, name: str, fingerprint: str, penalty: float, line: LengthLine) -> None:
        self.inner, self.name, self.fingerprint = inner, name, fingerprint
        self._penalty, self._line = penalty, line

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        """Raises UserError, one message, where what came back is not one finite number for each answer."""
        if len(prompts) != len(answers):
            raise ValueError(f"{len(prompts)} prompts and {len(answers)} answers")
        if not answers:
            return []
        try:
            returned = self.inner.score(prompts, answers)
        except EngineError as error:
            raise UserError(f"{self.name}: {error}") from error
        numbers = self._numbers(returned, prompts, answers)
        return [self._shaped(number, answer) for number, answer in zip(numbers, answers, strict=True)]

    def close(self) -> None:
        self.inner.close()

    def _numbers(self, returned: Any, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        if isinstance(returned, str | bytes | Mapping) or not isinstance(returned, Iterable):
            raise UserError(
                f"{self.name} returned {_shown(returned)} ({type(returned).__name__}), which is no list of "
                f"numbers; it must return one number for each of the {len(answers)} answers, in their order"
            )
        try:
            values = list(itertools.islice(returned, len(answers) + MANY))  # a generator may never end, or raise
        except Exception as error:
            raise UserError(
                f"{self.name} returned a {type(returned).__name__} that raised {type(error).__name__} when it was "
                "read; it must return a list of numbers"
            ) from error
        if len(values) != len(answers):
            more = "or more " if len(values) == len(answers) + MANY else ""
            raise UserError(
                f"{self.name} returned {len(values)} {more}rewards for {len(answers)} answers, the first of them to "
                f"the prompt {_last(prompts[0])}; it must return one number for each answer, in their order"
            )
        return [self._number(*each) for each in zip(values, prompts, answers, strict=True)]

    def _number(self, value: Any, prompt: Dialogue, answer: str) -> float:
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except Exception:  # whatever it is, its own code decides what this raises
            number = math.nan
        if math.isfinite(number):
            return number
        raise UserError(
            f"{self.name} returned {_shown(value)} for the answer {_short(repr(answer))} to the prompt "
            f"{_last(prompt)}; it must return a finite number: mend it for this answer and run the same command again"
        )

    def _shaped(self, number: float, answer: str) -> float:
        length = len(answer)
        return number - self._line.slope * (length - self._line.mean) - self._penalty * length / 100


def _last(prompt: Dialogue) -> str:
    return _short(repr(prompt[-1]["content"])) if prompt else "(empty)"


def _shown(value: Any) -> str:
    """What a reward returned, for a message; an integer of 5,000 digits, or an object of the user's, may have no
    text."""
    try:
        return _short(repr(value))
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
