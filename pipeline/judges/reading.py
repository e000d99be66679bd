"""How a model's choice is read best, found by asking: which beginning of its answer, and which letters, hold most mass.

`answer_prefix = "auto"` and `judge_options.letters = "auto"` of a choice judge are settled by it before the judge is
asked anything else: a few pairs, in both orders, with each way of asking. No answer is known to it, so nothing is
fitted to what is right; a way that holds mass may still be a coin, which the trial tells. What was settled is part of
every question's id, and whoever asks here keeps it, so that it is settled once (`service.wiring`).

A way is as good as the median mass of its letters, over both orders of the pairs; of those within `LIKE` of the best
the first of this list is taken, so that nothing is added to an answer without a reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import PROBABILITY, Comparison, Message, Messages, dialogue_id, text_digest
from pipeline.asking import Role
from pipeline.judges.applies import every_tag
from pipeline.judges.choice import AUTO, ChoiceJudge, ChoiceOptions
from pipeline.judges.judge import Case

LIKE = 0.02  # of mass
FEW = 3  # pairs
PREFIXES = ("The better reply is (", "Answer: (", "My choice is option (", "(")
BEGINNINGS = ("", "The better reply is (", "The better reply is", "Answer:", *PREFIXES[1:])
LETTERS = ("A", " A", "1", " 1")
PLAIN = (  # a plain question, an answer to it, and one that nobody would prefer
    ("What is the capital of France?", "The capital of France is Paris.", "Go away, you are stupid."),
    ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "Eggs eggs eggs eggs eggs eggs."),
    ("Can you help me to write a letter?", "Gladly. Who is it for, and what should it say?", "No."),
    ("How many days has a week?", "A week has seven days.", "A week has forty days, as everybody knows."),
)


@dataclass(frozen=True)
class Way:
    """One way of asking, and the median mass of its letters, of both orders of a few pairs."""

    answer_prefix: str
    letters: str
    mass: float


def settle(role: Role, constitution: Constitution, options: ChoiceOptions, prefix: str, letters: str) -> list[Way]:
    """Every way that the model could be asked, the one to take first. `prefix`, `letters`: as set, or AUTO. Raises
    UserError where it could be asked in none."""
    cases = _cases(constitution)
    tried = []
    for beginning in BEGINNINGS if prefix == AUTO else (prefix,):
        for each in _letters(beginning, prefix) if letters == AUTO else (letters,):
            given = ChoiceOptions(letters=each, shots=options.shots)
            judge = ChoiceJudge(replace(role, answer_prefix=beginning), given)
            try:
                verdicts = judge.judge(cases).verdicts
            except UserError:  # a letter is no single token after this beginning
                continue
            masses = [mass for v in verdicts for mass in (v.mass1, v.mass2)]
            if masses:
                tried.append(Way(beginning, each, round(statistics.median(masses) / PROBABILITY, 6)))
    if not tried:
        raise UserError("no beginning of an answer has letters that this model can be asked for; set them yourself")
    best = max(way.mass for way in tried)
    first = next(way for way in tried if way.mass >= best - LIKE)
    return [first, *(way for way in tried if way is not first)]


def _letters(beginning: str, prefix: str) -> tuple[str, ...]:
    """Those worth asking for: of a beginning that is set, all; after a bracket none with a space, after a word only
    such. A way costs as many requests as there are pairs, twice."""
    if prefix != AUTO or not beginning:
        return LETTERS
    return tuple(each for each in LETTERS if each.startswith(" ") != beginning.endswith("("))


def _cases(constitution: Constitution) -> list[Case]:
    """The first example of each principle that a model judges, and pairs of ours where those are few."""
    principles = [p for p in constitution if p.judge is None or p.judge.method == "choice"] or list(constitution)
    found = [_case(p, e.prompt, e.better, e.worse) for p in principles for e in p.examples[:1] if e.better != e.worse]
    for number, (question, better, worse) in enumerate(PLAIN):
        found.append(_case(principles[number % len(principles)], (Message("user", question),), better, worse))
    return found[:FEW]


def _case(principle: Principle, prompt: Messages, one: str, other: str) -> Case:
    comparison = Comparison.of(dialogue_id(prompt), text_digest(one), text_digest(other))
    first, second = (one, other) if comparison.first == text_digest(one) else (other, one)
    return Case(comparison, prompt, first, second, (principle,), every_tag([principle]))


def as_set(given: Sequence[Way]) -> dict[str, object]:
    """As it is kept: what was settled, and what was tried."""
    return {
        "answer_prefix": given[0].answer_prefix,
        "letters": given[0].letters,
        "tried": [[way.answer_prefix, way.letters, way.mass] for way in given],
    }
