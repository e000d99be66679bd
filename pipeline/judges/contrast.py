"""The contrast judge: no question is asked, the answers' own likelihoods are compared (RLCD, arXiv 2307.12950; DLMA,
arXiv 2402.11907, equation 4).

    margin of A over B = [log p(A | s+) - log p(A | s-)] - [log p(B | s+) - log p(B | s-)],  p = sigmoid(margin / scale)

s+ is the dialogue behind words that have the principle kept, s- behind words that have it broken. Nothing is generated,
nothing has a position or has to be parsed, and a base model will do. Four likelihoods a pair and principle, each answer
once for each side, whatever pairs it is in.

The words come from the principle (`keeps` and `breaks`, with the slots {comparison}, {critique} and {revision}), so
they are in the question's id. How much this is worth, and what wording, place and `length` do: docs/judges.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Id, Message, Messages, Question, canonical
from constitution.templates import fill
from pipeline.asking import Role
from pipeline.engines.engine import Refused, Score, Scored
from pipeline.judges import alone
from pipeline.judges.judge import Another, Case, Judged, Used
from pipeline.options import Options, read

KEEPS = "The assistant's next reply is the better of two replies by this question: {comparison}"
BREAKS = "The assistant's next reply is the worse of two replies by this question: {comparison}"


class ContrastOptions(Options):
    keeps: str = Field(KEEPS, min_length=1)
    breaks: str = Field(BREAKS, min_length=1)
    place: Literal["system", "user"] = "system"  # a system turn, or the end of the user's last turn
    length: Literal["sum", "mean"] = "sum"  # mean: log-probabilities a token
    scale: float = Field(1.0, gt=0)  # nats (a token, with mean) that are a log-odds of 1


class ContrastJudge:
    def __init__(self, role: Role, options: ContrastOptions) -> None:
        if not role.engine.capabilities.score:
            raise UserError("this engine cannot score a text, so it cannot be a contrast judge")
        if options.keeps == options.breaks:
            raise UserError("the contrast judge: keeps and breaks are the same words, so every margin would be zero")
        self.role, self.options = role, options
        self._known: dict[Id, float] = {}
        self._questions: dict[Principle, Question] = {}

    @property
    def fingerprint(self) -> str:
        return self.role.engine.fingerprint

    def question(self, principle: Principle) -> Question:
        if principle not in self._questions:
            how: dict[str, object] = {"method": "contrast"}
            how |= self.options.model_dump(exclude={"keeps", "breaks"}, exclude_defaults=True)
            if self.role.template_args:
                how["template_args"] = dict(self.role.template_args)
            template = canonical(self._sides(principle))
            self._questions[principle] = Question(self.fingerprint, how, template, principle.id)
        return self._questions[principle]

    def judge(self, cases: Sequence[Case]) -> Judged:
        return alone.judge(cases, self.question, self._look, self._weigh, self._known)

    def _look(self, answers: Sequence[alone.Answer]) -> alone.Looked[float]:
        """Of each answer how much likelier it is where the principle is kept, in nats."""
        requests = [
            Score(self.role.chat(self._beside(answer.messages, side)), answer.text)
            for answer in answers
            for side in self._sides(answer.principle)
        ]
        scored = self.role.engine.score(requests)
        sides = zip(scored[::2], scored[1::2], strict=True)
        return alone.Looked([self._lead(*both) for both in sides], used_by(scored))

    def _lead(self, kept: Scored | Refused, broken: Scored | Refused) -> float | Refused:
        if isinstance(kept, Refused):
            return kept
        if isinstance(broken, Refused):
            return broken
        lead = kept.logprob - broken.logprob
        return lead / max(1, kept.tokens) if self.options.length == "mean" else lead

    def _weigh(self, first: float, second: float) -> alone.Weighed:
        return alone.Weighed(sigmoid((first - second) / self.options.scale))

    def _sides(self, principle: Principle) -> tuple[str, str]:
        words = {"comparison": principle.comparison, "critique": principle.critique, "revision": principle.revision}
        return fill(self.options.keeps, **words), fill(self.options.breaks, **words)

    def _beside(self, messages: Messages, side: str) -> Messages:
        """The dialogue with such words: one system turn at most, since templates refuse a second."""
        if self.options.place == "user":
            return (*messages[:-1], Message(messages[-1].role, f"{messages[-1].content}\n\n({side})"))
        if messages and messages[0].role == "system":
            return (Message("system", f"{side}\n\n{messages[0].content}"), *messages[1:])
        return (Message("system", side), *messages)


def used_by(scored: Sequence[Scored | Refused]) -> Used:
    """What scores took: nothing is generated, a completion is read as its chat is."""
    answered = [each for each in scored if not isinstance(each, Refused)]
    return Used(requests=len(answered), prompt_tokens=sum(each.prompt_tokens for each in answered))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def build(role: Role, options: Mapping[str, Any], another: Another) -> ContrastJudge:
    return ContrastJudge(role, read(ContrastOptions, "the contrast judge", options))
