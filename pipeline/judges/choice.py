"""The A/B judge (CAI section 4.1, RLAIF section 3): log-probabilities of the two letters, in both orders.

One principle a question. Nothing is generated: the probability of each letter at the answer position is read, with
the mass the two hold of the whole vocabulary. All of a pair's principles share everything before the question, so the
engine computes that part once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Question, Verdict, probability
from constitution.templates import comparison_request, question_template
from pipeline.asking import Role
from pipeline.engines.engine import Choose, Refused
from pipeline.judges.judge import Another, Case, Judged, Omitted, Used

LETTERS = ("A", "B")


class ChoiceJudge:
    def __init__(self, role: Role) -> None:
        if not role.engine.capabilities.choose:
            raise UserError("this engine cannot read the probability of an option, so it cannot be a choice judge")
        self.role = role
        self._questions: dict[Principle, Question] = {}

    @property
    def fingerprint(self) -> str:
        return self.role.engine.fingerprint

    @property
    def readout(self) -> dict[str, object]:
        """How the answer is read: part of the question's id. Defaults are left out."""
        how: dict[str, object] = {"method": "choice"}
        if self.role.answer_prefix:
            how["answer_prefix"] = self.role.answer_prefix
        if self.role.template_args:
            how["template_args"] = dict(self.role.template_args)
        return how

    def question(self, principle: Principle) -> Question:
        if principle not in self._questions:
            template = question_template(principle)
            self._questions[principle] = Question(self.fingerprint, self.readout, template, principle.id)
        return self._questions[principle]

    def judge(self, cases: Sequence[Case]) -> Judged:
        groups = [group for case in cases for group in (self._group(case), self._group(case, swapped=True))]
        asked = self.role.engine.choose(groups)
        choices = iter(asked)
        verdicts, omitted = [], []
        for case in cases:
            for principle, shown_a, shown_b in zip(case.principles, next(choices), next(choices), strict=True):
                if isinstance(shown_a, Refused) or isinstance(shown_b, Refused):
                    refused = shown_a if isinstance(shown_a, Refused) else shown_b
                    assert isinstance(refused, Refused)
                    omitted.append(Omitted(self.question(principle).id, case.comparison.id, refused))
                    continue
                verdicts.append(
                    Verdict(
                        question=self.question(principle).id,
                        comparison=case.comparison.id,
                        p1=probability(shown_a.probabilities[0]),
                        p2=probability(shown_b.probabilities[1]),
                        mass1=probability(shown_a.mass),
                        mass2=probability(shown_b.mass),
                    )
                )
        found = [choice for group in asked for choice in group if not isinstance(choice, Refused)]
        used = Used(requests=len(found), prompt_tokens=sum(choice.prompt_tokens for choice in found))
        return Judged(verdicts, used=used, omitted=tuple(omitted))

    def _group(self, case: Case, swapped: bool = False) -> Choose:
        a, b = (case.second, case.first) if swapped else (case.first, case.second)
        return Choose(
            tuple(self.role.chat(comparison_request(case.messages, a, b, p)) for p in case.principles), LETTERS
        )


def build(role: Role, options: Mapping[str, Any], another: Another) -> ChoiceJudge:
    if options:
        raise UserError(f"the choice judge has no option {', '.join(sorted(options))}")
    return ChoiceJudge(role)
