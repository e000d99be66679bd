"""For judges that look at each answer alone: rating, contrast, reward. What they found of two answers is weighed after.

An answer is in several pairs, and is looked at once: what was found is kept as long as the judge is. Since no answer
stands first or second, both orders of a verdict are the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from constitution.principles import Principle
from constitution.records import Id, Messages, Question, Verdict, make_id, probability
from pipeline.engines.engine import Refused
from pipeline.judges.judge import Case, Judged, Omitted, Used

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a dialogue, to be looked at under a principle."""

    messages: Messages
    text: str
    principle: Principle


class Looked(NamedTuple, Generic[T]):
    """What came of looking at answers: one finding each, in their order, and what was used."""

    found: Sequence[T | Refused]
    used: Used


class Weighed(NamedTuple):
    """`p`: probability that the first of two answers is the better. `masses`: what each of the two readings held."""

    p: float
    masses: tuple[float, float] = (1.0, 1.0)


def judge(
    cases: Sequence[Case],
    question: Callable[[Principle], Question],
    look: Callable[[Sequence[Answer]], Looked[T]],
    weigh: Callable[[T, T], Weighed],
    known: dict[Id, T],
) -> Judged:
    """Verdicts on `cases`. `look` is called once, for the answers that are not in `known`, which it fills. What was
    refused is not kept: a later call asks again."""
    wanted: dict[Id, Answer] = {}
    for case in cases:
        for principle in case.principles:
            for text in (case.first, case.second):
                wanted.setdefault(_key(case, text, question(principle)), Answer(case.messages, text, principle))
    new = {key: answer for key, answer in wanted.items() if key not in known}
    looked = look(list(new.values())) if new else Looked[T]((), Used())
    refused: dict[Id, Refused] = {}
    for key, found in zip(new, looked.found, strict=True):
        if isinstance(found, Refused):
            refused[key] = found
        else:
            known[key] = found
    verdicts, omitted = [], []
    for case in cases:
        for principle in case.principles:
            asked = question(principle)
            keys = [_key(case, text, asked) for text in (case.first, case.second)]
            if missing := [refused[key] for key in keys if key in refused]:
                omitted.append(Omitted(asked.id, case.comparison.id, missing[0]))
                continue
            verdicts.append(_verdict(asked.id, case.comparison.id, weigh(known[keys[0]], known[keys[1]])))
    return Judged(verdicts, used=looked.used, omitted=tuple(omitted))


def _key(case: Case, text: str, question: Question) -> Id:
    return make_id("alone", prompt=case.comparison.prompt, text=text, question=question.id)


def _verdict(question: Id, comparison: Id, found: Weighed) -> Verdict:
    p, masses = probability(found.p), [probability(mass) for mass in found.masses]
    return Verdict(question, comparison, p, p, *masses)
