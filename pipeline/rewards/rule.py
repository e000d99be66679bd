"""Checks as the reward (`pipeline.checks`): what code can tell of an answer, which no answer can argue with.

    {"kind": "rule", "checks": {"max_words": 80, "lists": "none"}}
    {"kind": "rule", "constitution": "principles.yaml"}

Of `checks` the reward is the share that an answer keeps, from 0 to 1; of a constitution it is the mean over its checked
principles (`judge: {method: rule, ...}`), by their weights, of 1 for one that is kept. With `combine = "all"` it is 1
where all of them are kept, else 0. What nobody can tell of an answer counts a half. A principle whose `when` is a check
of the request counts for the requests that keep it; where `when` names tags, or asks a question, its prompts cannot be
told here, and it is left out. Where no principle is left for a request, the reward is a half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from constitution import loading
from constitution.errors import UserError
from constitution.records import WEIGHT, Messages, make_id, messages_of
from pipeline.checks import Checks, held
from pipeline.checks.declared import Declared, of_constitution
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue

VERSION = 1  # raised when a check comes to say something else of the same text


class RuleOptions(Options):
    checks: Mapping[str, Any] = Field(default_factory=dict)
    constitution: Path | None = None  # a constitution's file
    combine: Literal["share", "all"] = "share"

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.checks) == (self.constitution is not None):
            raise ValueError("it needs `checks`, or a `constitution` that has checked principles, and not both")
        return self


def check(options: Mapping[str, Any]) -> None:
    """The checks are sound. No function of the user's is run."""
    _rules(read(RuleOptions, "rule", options))


def fingerprint(options: Mapping[str, Any]) -> str:
    given = read(RuleOptions, "rule", options)
    rules = [
        [rule.checks.readout, rule.weight, rule.when.readout if rule.when is not None else None]
        for rule in _rules(given)
    ]
    return make_id("reward_rule", version=VERSION, rules=rules, combine=given.combine).hex()


def build(options: Mapping[str, Any]) -> RuleReward:
    given = read(RuleOptions, "rule", options)
    return RuleReward(_rules(given), given.combine, fingerprint(options))


class RuleReward:
    """See the module."""

    name = ""

    def __init__(self, rules: Sequence[Declared], combine: str, digest: str) -> None:
        self.fingerprint = digest
        self._rules, self._all = rules, combine == "all"

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        return [self._of(messages_of(p), answer) for p, answer in zip(prompts, answers, strict=True)]

    def close(self) -> None:
        pass

    def _of(self, messages: Messages, answer: str) -> float:
        """Of one answer: each principle, or each check where there are no principles, is a part."""
        parts: list[tuple[int, float]] = []
        for rule in self._rules:
            if not rule.applies(messages):
                continue
            kept = rule.checks.kept(messages, answer)
            single = {key: held({key: value}) for key, value in kept.items()}
            states = [held(kept)] if rule.id or self._all else list(single.values())
            parts += [(rule.weight, 0.5 if state is None else float(state)) for state in states]
        if not parts:
            return 0.5
        if self._all:
            return min(part for _, part in parts)
        return sum(weight * part for weight, part in parts) / sum(weight for weight, _ in parts)


def _rules(given: RuleOptions) -> list[Declared]:
    """What is checked. Raises UserError where it is nothing."""
    if given.constitution is None:
        return [Declared("", "", Checks.read(given.checks), WEIGHT)]
    constitution = loading.load(given.constitution)
    rules = [rule for rule in of_constitution(constitution) if rule.told_by_text]
    if not rules:
        raise UserError(
            f"reward (kind rule): {given.constitution} has no principle whose judge is code, for prompts that code can "
            "tell; write `judge: {method: rule, max_words: 80}` under one, or name `checks`"
        )
    return rules
