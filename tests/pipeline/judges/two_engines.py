"""A judge for tests that uses all of the contract: one engine writes a reason, another reads it and chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Message, Question, Reason, Verdict, make_id, probability, seed_of
from constitution.templates import comparison_request, question_template
from pipeline.asking import Role
from pipeline.engines.engine import Choose, Generate
from pipeline.judges.judge import Another, Case, Judged, Used


class TwoEngines:
    def __init__(self, role: Role, reasoner: Role) -> None:
        self.role, self.reasoner = role, reasoner
        self.fingerprint = make_id(
            "two_engines", chooses=role.engine.fingerprint, reasons=reasoner.engine.fingerprint
        ).hex()

    def question(self, principle: Principle) -> Question:
        return Question(self.fingerprint, {"method": "two_engines"}, question_template(principle), principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        asked = [(case, principle, shown) for case in cases for principle in case.principles for shown in (1, 2)]
        requests = [
            comparison_request(case.messages, *self._shown(case, shown), principle) for case, principle, shown in asked
        ]
        written = self.reasoner.engine.generate(
            [
                Generate(self.reasoner.chat(messages), self.reasoner.sampling, seed_of("reason", number))
                for number, messages in enumerate(requests)
            ]
        )
        chosen = self.role.engine.choose(
            [
                Choose(
                    (self.role.chat((*messages, Message("assistant", said.text), Message("user", "So A or B?"))),),
                    ("A", "B"),
                )
                for messages, said in zip(requests, written, strict=True)
            ]
        )
        choices = [group[0] for group in chosen]
        verdicts, reasons = [], []
        for place in range(0, len(asked), 2):
            case, principle, _ = asked[place]
            question, (first, second) = self.question(principle).id, choices[place : place + 2]
            verdicts.append(
                Verdict(
                    question, case.comparison.id,
                    probability(first.probabilities[0]), probability(second.probabilities[1]),
                    probability(first.mass), probability(second.mass),
                )
            )  # fmt: skip
            for shown, said in zip((1, 2), written[place : place + 2], strict=True):
                reasons.append(Reason(question, case.comparison.id, shown, said.text))  # type: ignore[arg-type]
        used = Used(
            requests=len(written) + len(choices),
            prompt_tokens=sum(said.prompt_tokens for said in written) + sum(choice.prompt_tokens for choice in choices),
            tokens=sum(said.tokens for said in written),
        )
        return Judged(verdicts, reasons, used)

    def _shown(self, case: Case, shown: int) -> tuple[str, str]:
        return (case.first, case.second) if shown == 1 else (case.second, case.first)


def build(role: Role, options: Mapping[str, Any], another: Another) -> TwoEngines:
    if set(options) != {"reasoner"}:
        raise UserError("the judge of two engines has one option, reasoner: the settings of the role that reasons")
    return TwoEngines(role, another(options["reasoner"]))
