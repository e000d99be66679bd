"""The rating judge: each answer alone on a scale, its rating the expected value over the scale's tokens (G-Eval, arXiv
2303.16634, section 3.3), and which of two is the better from the two distributions:

    p(A is better) = P(X > Y) + P(X = Y) / 2,  X and Y the ratings of A and B, independent

Nothing is generated and nothing has a position. Each answer is asked about once a principle, whatever pairs it is in. A
verdict's two masses are those that the scale's tokens held for the comparison's first answer and for its second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from pydantic import Field, field_validator

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Id, Messages, Question
from constitution.templates import rating_request, rating_template
from pipeline.asking import Role
from pipeline.engines.engine import Chat, Choice, Choose, Refused
from pipeline.judges import alone
from pipeline.judges.judge import Another, Case, Judged, Used
from pipeline.options import Options, read

SCALE = ("1", "2", "3", "4", "5")
BEGINS = "Rating: "


class RatingOptions(Options):
    scale: tuple[str, ...] = Field(SCALE, min_length=2)  # from the worst to the best, each one token
    begins: str = BEGINS  # what the answer is made to begin with; the role's answer_prefix is for letters

    @field_validator("scale")
    @classmethod
    def _no_word_twice(cls, scale: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(scale)) < len(scale) or not all(word.strip() for word in scale):
            raise ValueError("the words of a scale are all different, and none is empty")
        return scale


class RatingJudge:
    def __init__(self, role: Role, options: RatingOptions) -> None:
        if not role.engine.capabilities.choose:
            raise UserError("this engine cannot read the probability of an option, so it cannot be a rating judge")
        self.role, self.options = role, options
        self._known: dict[Id, Choice] = {}
        self._questions: dict[Principle, Question] = {}

    @property
    def fingerprint(self) -> str:
        return self.role.engine.fingerprint

    def question(self, principle: Principle) -> Question:
        if principle not in self._questions:
            how: dict[str, object] = {"method": "rating"}
            how |= self.options.model_dump(mode="json", exclude_defaults=True)
            if self.role.template_args:
                how["template_args"] = dict(self.role.template_args)
            template = rating_template(principle, self.options.scale)
            self._questions[principle] = Question(self.fingerprint, how, template, principle.id)
        return self._questions[principle]

    def judge(self, cases: Sequence[Case]) -> Judged:
        return alone.judge(cases, self.question, self._look, self._weigh, self._known)

    def _look(self, answers: Sequence[alone.Answer]) -> alone.Looked[Choice]:
        """The distribution of each answer's rating. Principles of one answer share a group: all before the question is
        computed once."""
        groups: dict[tuple[object, str], list[int]] = {}
        for place, answer in enumerate(answers):
            groups.setdefault((answer.messages, answer.text), []).append(place)
        asked = [
            Choose(
                tuple(
                    Chat(self._request(answers[place]), self.options.begins, self.role.template_args)
                    for place in places
                ),
                self.options.scale,
            )
            for places in groups.values()
        ]
        found: dict[int, Choice | Refused] = {}
        for places, choices in zip(groups.values(), self.role.engine.choose(asked), strict=True):
            found |= zip(places, choices, strict=True)
        rated = [found[place] for place in range(len(answers))]
        read = [choice for choice in rated if not isinstance(choice, Refused)]
        return alone.Looked(rated, Used(len(read), sum(choice.prompt_tokens for choice in read)))

    def _request(self, answer: alone.Answer) -> Messages:
        return rating_request(answer.messages, answer.text, answer.principle, self.options.scale)

    def _weigh(self, first: Choice, second: Choice) -> alone.Weighed:
        return alone.Weighed(above(first.probabilities, second.probabilities), (first.mass, second.mass))


def above(one: Sequence[float], other: Sequence[float]) -> float:
    """P(X > Y) + P(X = Y) / 2 of independent ratings, their probabilities from the worst to the best."""
    below = [0.0, *accumulate(other)]
    return min(1.0, math.fsum(p * (below[i] + other[i] / 2) for i, p in enumerate(one)))


def build(role: Role, options: Mapping[str, Any], another: Another) -> RatingJudge:
    return RatingJudge(role, read(RatingOptions, "the rating judge", options))
