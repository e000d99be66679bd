"""A judge: a second engine says why, and the first one reads that before it chooses."""

from collections.abc import Mapping, Sequence
from typing import Any

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Message, Question, Reason, Verdict, make_id, probability
from constitution.templates import comparison_request, question_template
from pipeline.asking import Role
from pipeline.engines.engine import Choose, Generate
from pipeline.judges.judge import Another, Case, Judged, Used


class Thinker:
    def __init__(self, role: Role, second: Role) -> None:
        self.role, self.second = role, second
        self.fingerprint = make_id("thinker", of=[role.engine.fingerprint, second.engine.fingerprint]).hex()

    def question(self, principle: Principle) -> Question:
        return Question(self.fingerprint, {"method": "thinker"}, question_template(principle), principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        found = [self._asked(case, principle) for case in cases for principle in case.principles]
        used = sum((each.used for each in found), start=Used())
        return Judged([v for each in found for v in each.verdicts], [r for each in found for r in each.reasons], used)

    def _asked(self, case: Case, principle: Principle) -> Judged:
        orders = ((case.first, case.second), (case.second, case.first))
        asked = [comparison_request(case.messages, *texts, principle) for texts in orders]
        thought = self.second.engine.generate(
            [Generate(self.second.chat(messages), self.second.sampling, 0) for messages in asked]
        )
        chats = [
            self.role.chat((*messages, Message("assistant", why.text), Message("user", "So A or B?")))
            for messages, why in zip(asked, thought, strict=True)
        ]
        ((one, two),) = self.role.engine.choose([Choose(tuple(chats), ("A", "B"))])
        ident, comparison = self.question(principle).id, case.comparison.id
        verdict = Verdict(
            ident, comparison, probability(one.probabilities[0]), probability(two.probabilities[1]),
            probability(one.mass), probability(two.mass),
        )  # fmt: skip
        first, second = thought
        reasons = [Reason(ident, comparison, 1, first.text), Reason(ident, comparison, 2, second.text)]
        read = sum(each.prompt_tokens for each in (one, two, *thought))
        return Judged([verdict], reasons, Used(4, read, sum(why.tokens for why in thought)))


def build(role: Role, options: Mapping[str, Any], another: Another) -> Thinker:
    if set(options) != {"second"}:
        raise UserError("the judge thinker has one option, second: the settings of the role that says why")
    return Thinker(role, another(options["second"]))
