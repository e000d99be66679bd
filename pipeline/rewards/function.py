"""A Python function as the reward: `name: "package.module:function"`, called as `function(prompts, answers)`.

`prompts` is a list of dialogues (lists of {"role", "content"}), `answers` a list of texts, and what comes back a list
of numbers in their order. How it is found, and how it is called, is in `pipeline.functions`. Its fingerprint is that of
its name and of its file, not of what it imports.

A call that takes longer than `timeout` seconds is given up. Its thread cannot be stopped and ends with the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from constitution.records import make_id
from pipeline import functions
from pipeline.functions import Function
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue

NOUN = "reward function"
MANY = 1_000  # rewards more than answers, after which a generator is not read on


class FunctionOptions(Options):
    name: str = Field(pattern=functions.NAME.pattern)  # package.module:function
    timeout: float = Field(60.0, gt=0)  # seconds a call may take


def check(options: Mapping[str, Any]) -> None:
    """The module is there. It is not imported: that would run it."""
    functions.file(read(FunctionOptions, "function", options).name, NOUN)


def fingerprint(options: Mapping[str, Any]) -> str:
    name = read(FunctionOptions, "function", options).name
    return make_id("reward_function", name=name, source=functions.source(name, NOUN)).hex()


def build(options: Mapping[str, Any]) -> FunctionReward:
    given = read(FunctionOptions, "function", options)
    digest = fingerprint(options)
    return FunctionReward(given.name, functions.load(given.name, NOUN), given.timeout, digest)


class FunctionReward:
    """See the module."""

    def __init__(self, name: str, function: Function, timeout: float, digest: str) -> None:
        self.name, self.fingerprint = name, digest
        self._function, self._timeout = function, timeout

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        """Whatever the function returns. Raises UserError where it raises, or takes too long."""
        rewards: list[float] = functions.call(
            self._function, (list(prompts), list(answers)), f"{NOUN} {self.name}", self._timeout,
            f"{len(answers)} answers", len(answers) + MANY,
        )  # fmt: skip
        return rewards  # looked at by `checked`

    def close(self) -> None:
        pass
