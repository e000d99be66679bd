"""The judge that is code: which of two answers keeps the checks that a principle declares (`pipeline.checks`).

    judge: {method: rule, max_words: 80, lists: asked}

One that keeps them all against one that does not is 1 or 0, in both orders alike. Two that keep them alike, and a
pair of which nobody can tell, get exactly one half: the principle abstains. With `graded`, of two that fail the one
that comes nearer is the better by as much, p = 1/2 + (kept - kept') / 2, `kept` the mean over the checks from 0 to 1.

It asks no model, so its fingerprint is that of this code (`VERSION`), its mass is whole, and it costs nothing. As the
method of a whole role (`judge.method`) its options are the checks for every principle that names no judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import PROBABILITY, Question, Verdict, make_id, probability
from pipeline.asking import Role
from pipeline.checks import Checks, held
from pipeline.judges.judge import Another, Case, Judged

VERSION = 1  # raised when a check comes to say something else of the same text
TEMPLATE = "Which reply keeps this: {}?"


class RuleJudge:
    apart = True
    asks_a_model = False

    def __init__(self, checks: Checks, graded: bool = False) -> None:
        self.checks, self.graded = checks, graded
        self.fingerprint = make_id("judge_rule", version=VERSION).hex()

    def question(self, principle: Principle) -> Question:
        """Of the checks alone: the principle's words are for those who write and read."""
        how: dict[str, Any] = {"method": "rule", "checks": self.checks.readout}
        if self.graded:
            how["graded"] = True
        return Question(self.fingerprint, how, TEMPLATE.format(self.checks.words), principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        return Judged([self._verdict(case, principle) for case in cases for principle in case.principles])

    def _verdict(self, case: Case, principle: Principle) -> Verdict:
        p = self.first_is_better(case)
        return Verdict(self.question(principle).id, case.comparison.id, p, p, PROBABILITY, PROBABILITY)

    def first_is_better(self, case: Case) -> int:
        """How probably, times 1e9."""
        first, second = (self.checks.kept(case.messages, text) for text in (case.first, case.second))
        holds = [held(first), held(second)]
        if None in holds:
            return PROBABILITY // 2
        if holds[0] != holds[1]:
            return PROBABILITY if holds[0] else 0
        if not self.graded:
            return PROBABILITY // 2
        one, other = (fmean(value or 0.0 for value in kept.values()) for kept in (first, second))
        return probability(0.5 + (one - other) / 2)


def build(role: Role, options: Mapping[str, Any], another: Another) -> RuleJudge:
    given = dict(options)
    graded = given.pop("graded", False)
    if not isinstance(graded, bool):
        raise UserError(f"graded is {graded!r}; it is true or false")
    return RuleJudge(Checks.read(given), graded)
