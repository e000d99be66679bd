"""The reasoned judge: reasons first, then the letters are read after them (CAI section 4.1, "let us think step by
step"; RLAIF section 3.1), in both orders.

The reasons are generated greedily, or sampled from a seed that is a hash of what is asked, so that a batch changes
nothing. They go into the second request as text alone. What a model thinks in a block of its own before them is not
among them: it is neither judged nor kept. A reason that was cut at `max_tokens` ends in `CUT` where it is kept, and is
used as far as it goes.

After its own reasons a model is surer than it is right, so labels limit what such a verdict says to `CLAMP` (CAI
section 4.3). That is the label's business: verdicts are stored as they were read. Nothing is asked twice: what cannot
be read is final, greedy or sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Messages, Question, Reason, Verdict, probability, seed_of
from constitution.templates import reasoned_request, reasoned_template, reasons_request
from pipeline.asking import Role
from pipeline.engines.engine import Chat, Choice, Choose, Completion, Generate, Refused, Sampling
from pipeline.judges.judge import Another, Case, Judged, Omitted, Used
from pipeline.options import Options, read

CLAMP = (0.40, 0.60)
CUT = "\n[cut here: the limit of tokens was reached]"
BEGINS = "Let us think step by step:"
LETTERS = ("A", "B")


class ReasonedOptions(Options):
    max_tokens: int = Field(256, ge=1)  # of the reasons
    temperature: float = Field(0.0, ge=0)  # 0: greedy
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0)  # of sampling
    begins: str = BEGINS  # what the reasons are made to begin with


class Asked(NamedTuple):
    """One order of one question."""

    case: Case
    principle: Principle
    shown: Literal[1, 2]

    @property
    def answers(self) -> tuple[str, str]:
        case = self.case
        return (case.first, case.second) if self.shown == 1 else (case.second, case.first)


class ReasonedJudge:
    apart = True

    def __init__(self, role: Role, options: ReasonedOptions) -> None:
        can = role.engine.capabilities
        if not (can.choose and can.generate):
            raise UserError(
                "a reasoned judge writes reasons and reads the probability of an option: this engine cannot"
            )
        if options.seed and not options.temperature:
            raise UserError("the reasoned judge: seed does nothing at temperature 0; set temperature as well")
        self.role, self.options = role, options
        self._questions: dict[Principle, Question] = {}

    @property
    def fingerprint(self) -> str:
        return self.role.engine.fingerprint

    def question(self, principle: Principle) -> Question:
        if principle not in self._questions:
            how: dict[str, object] = {"method": "reasoned"}
            how |= self.options.model_dump(exclude_defaults=True)
            if self.role.answer_prefix:
                how["answer_prefix"] = self.role.answer_prefix
            if self.role.template_args:
                how["template_args"] = dict(self.role.template_args)
            template = reasoned_template(principle)
            self._questions[principle] = Question(self.fingerprint, how, template, principle.id)
        return self._questions[principle]

    def judge(self, cases: Sequence[Case]) -> Judged:
        orders: tuple[Literal[1, 2], ...] = (1, 2)
        asked = [Asked(case, principle, shown) for case in cases for principle in case.principles for shown in orders]
        written = self.role.engine.generate([self._reasons(each) for each in asked]) if asked else []
        chosen = self._choose(asked, written)
        verdicts, reasons, omitted = [], [], []
        for place, each in enumerate(asked[::2]):
            question, comparison = self.question(each.principle).id, each.case.comparison.id
            both = chosen[2 * place : 2 * place + 2]
            if missing := [found for found in both if isinstance(found, Refused)]:
                omitted.append(Omitted(question, comparison, missing[0]))
                continue
            first, second = (found for found in both if not isinstance(found, Refused))
            verdicts.append(
                Verdict(
                    question,
                    comparison,
                    p1=probability(first.probabilities[0]),
                    p2=probability(second.probabilities[1]),
                    mass1=probability(first.mass),
                    mass2=probability(second.mass),
                )
            )
            for shown, said in zip(orders, written[2 * place : 2 * place + 2], strict=True):
                assert isinstance(said, Completion)  # else its choice is refused
                cut = CUT if said.finish_reason == "length" else ""
                reasons.append(Reason(question, comparison, shown, said.text + cut))
        return Judged(verdicts, reasons, _used(written, chosen), tuple(omitted))

    def _reasons(self, asked: Asked) -> Generate:
        case, options = asked.case, self.options
        request = reasons_request(case.messages, *asked.answers, asked.principle)
        parts = (self.question(asked.principle).id, case.comparison.id, asked.shown)
        seed = seed_of("reasons", options.seed, *parts)
        sampling = Sampling(options.temperature, options.top_p, options.max_tokens)
        return Generate(Chat(request, options.begins, self.role.template_args), sampling, seed)

    def _choose(self, asked: Sequence[Asked], written: Sequence[Completion | Refused]) -> list[Choice | Refused]:
        """The letters after the reasons; where those were refused, that. The principles of a pair share a group."""
        chats: list[Chat | Refused] = [
            said if isinstance(said, Refused) else self.role.chat(self._after(each, said))
            for each, said in zip(asked, written, strict=True)
        ]
        groups: dict[tuple[int, int], list[int]] = {}
        for place, each in enumerate(asked):
            if not isinstance(chats[place], Refused):
                groups.setdefault((id(each.case), each.shown), []).append(place)
        requests = [Choose(tuple(c for p in g if isinstance(c := chats[p], Chat)), LETTERS) for g in groups.values()]
        found: dict[int, Choice | Refused] = {p: c for p, c in enumerate(chats) if isinstance(c, Refused)}
        for places, choices in zip(groups.values(), self.role.engine.choose(requests) if requests else [], strict=True):
            found |= zip(places, choices, strict=True)
        return [found[place] for place in range(len(asked))]

    def _after(self, asked: Asked, said: Completion) -> Messages:
        reasons = f"{self.options.begins} {said.text.strip()}".strip()
        return reasoned_request(asked.case.messages, *asked.answers, asked.principle, reasons)


def _used(written: Sequence[Completion | Refused], chosen: Sequence[Choice | Refused]) -> Used:
    texts = [said for said in written if not isinstance(said, Refused)]
    choices = [choice for choice in chosen if not isinstance(choice, Refused)]
    return Used(
        requests=len(texts) + len(choices),
        prompt_tokens=sum(said.prompt_tokens for said in texts) + sum(choice.prompt_tokens for choice in choices),
        tokens=sum(said.tokens for said in texts),
    )


def build(role: Role, options: Mapping[str, Any], another: Another) -> ReasonedJudge:
    return ReasonedJudge(role, read(ReasonedOptions, "the reasoned judge", options))
