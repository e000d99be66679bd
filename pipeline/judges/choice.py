"""The A/B judge (CAI section 4.1, RLAIF section 3): log-probabilities of the two letters, in both orders.

One principle a question. Nothing is generated: the probability of each letter at the answer position is read, with
the mass the two hold of the whole vocabulary. All of a pair's principles share everything before the question, so the
engine computes that part once.

`letters`: which tokens stand for the replies, as a model that begins its answers with a space, or that would rather
say a number, needs. `shots`: so many of the principle's own examples are shown before the question, answered, both
letters equally often. An example is never shown before a question about its own prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from constitution.errors import UserError
from constitution.principles import Example, Principle
from constitution.records import Message, Messages, Question, Verdict, canonical, dialogue_id, probability
from constitution.templates import comparison_request, question_template
from pipeline.asking import Role
from pipeline.engines.engine import Choose, Refused
from pipeline.judges.judge import Another, Case, Judged, Omitted, Used
from pipeline.options import Options, read

LETTERS = ("A", "B")
OTHERS = {"A": LETTERS, " A": (" A", " B"), "1": ("1", "2"), " 1": (" 1", " 2")}
AUTO = "auto"  # of `letters`, and of the role's answer_prefix: settled by `pipeline.judges.reading` before it is built


class ChoiceOptions(Options):
    letters: Literal["A", " A", "1", " 1"] = "A"
    shots: int = Field(0, ge=0, multiple_of=2)  # as many of one letter as of the other

    @field_validator("letters", mode="before")
    @classmethod
    def _of_those(cls, value: object) -> object:
        """`auto` never gets here where it is of use."""
        those = ", ".join(f'"{each}"' for each in OTHERS)
        if value == AUTO:
            raise ValueError(
                f'"{AUTO}" is found out once for a whole role ([judge] judge_options); the judge of one principle, '
                f"or inside of another, names them: {those}"
            )
        if not isinstance(value, str) or value not in OTHERS:
            raise ValueError(f'they are {those} or, for a whole role, "{AUTO}"')
        return value


class ChoiceJudge:
    apart = True

    def __init__(self, role: Role, options: ChoiceOptions | None = None) -> None:
        if not role.engine.capabilities.choose:
            raise UserError("this engine cannot read the probability of an option, so it cannot be a choice judge")
        self.role, self.options = role, options or ChoiceOptions()
        self.labels = OTHERS[self.options.letters]
        self.names = (self.labels[0].strip(), self.labels[1].strip())
        self._questions: dict[Principle, Question] = {}
        self._shown: dict[tuple[Principle, tuple[Example, ...]], Messages] = {}

    @property
    def fingerprint(self) -> str:
        return self.role.engine.fingerprint

    @property
    def readout(self) -> dict[str, object]:
        """How the answer is read: part of the question's id. Defaults are left out."""
        how: dict[str, object] = {"method": "choice"}
        how |= self.options.model_dump(exclude_defaults=True)
        if self.role.answer_prefix:
            how["answer_prefix"] = self.role.answer_prefix
        if self.role.template_args:
            how["template_args"] = dict(self.role.template_args)
        return how

    def question(self, principle: Principle) -> Question:
        """Its template has the examples that are shown, whatever a pair's own leave out of them."""
        if principle not in self._questions:
            template = question_template(principle, self.names)
            if self.options.shots:
                shown = [[list(e.prompt), e.better, e.worse] for e in _of(principle)]
                template = canonical({"examples": shown, "template": template})
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
            tuple(
                self.role.chat((*self._shots(p, case), *comparison_request(case.messages, a, b, p, self.names)))
                for p in case.principles
            ),
            self.labels,
        )

    def _shots(self, principle: Principle, case: Case) -> Messages:
        """What is shown before a question about a pair: none of the examples of its own prompt."""
        if not self.options.shots:
            return ()
        there = tuple(e for e in _of(principle) if dialogue_id(e.prompt) != case.comparison.prompt)
        key = (principle, there)
        if key not in self._shown:
            self._shown[key] = tuple(
                turn
                for number, example in enumerate(shown(there, self.options.shots))
                for turn in self._answered(principle, example, better_first=number % 2 == 0)
            )
        return self._shown[key]

    def _answered(self, principle: Principle, example: Example, better_first: bool) -> Messages:
        a, b = (example.better, example.worse) if better_first else (example.worse, example.better)
        prefix = self.role.answer_prefix
        said = prefix + self.labels[0 if better_first else 1] + (")" if prefix.endswith("(") else "")
        return (*comparison_request(example.prompt, a, b, principle, self.names), Message("assistant", said))


def shown(examples: Sequence[Example], n: int) -> list[Example]:
    """At most `n` examples, an even number, to be shown by turns with the better first and last: of an odd number each
    may be shown both ways round, and none is ever shown twice alike."""
    most = min(n, len(examples) * (2 if len(examples) % 2 else 1))
    return [examples[number % len(examples)] for number in range(most - most % 2)]


def _of(principle: Principle) -> list[Example]:
    return [e for e in principle.examples if e.better != e.worse]


def build(role: Role, options: Mapping[str, Any], another: Another) -> ChoiceJudge:
    return ChoiceJudge(role, read(ChoiceOptions, "the choice judge", options))
