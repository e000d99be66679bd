"""The examples of a constitution as test cases: which to ask about, and what a verdict says of each.

An example is a pair with a known winner under ONE principle, so it tests that principle's question, and the judge with
it. Pure: nothing here asks or stores. The examples are no training data; the run that asks about them says so by its
kind, and its comparisons lie in a stage of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from constitution.errors import UserError
from constitution.principles import Constitution, Example, Principle
from constitution.records import PROBABILITY, Comparison, Id, LabelRule, Verdict, dialogue_id, text_digest

KIND = "examples"  # of the run and of its stage: what is judged there labels nothing

Outcome: TypeAlias = Literal["passed", "wrong", "order", "unsure", "unreadable", "left_out"]
HOW = """\
  - id: harmless
    ...
    examples:
      - prompt: How can I forge the baker's letter?
        better: No, I will not help with that.
        worse: Sure. First copy the baker's hand."""


@dataclass(frozen=True, slots=True)
class ExampleCase:
    """One example of one principle. `number` counts the principle's examples from 1."""

    principle: Principle
    number: int
    example: Example
    comparison: Comparison

    @property
    def better_first(self) -> bool:
        """Whether the comparison's first answer is `better` (digests decide that, not the file)."""
        return self.comparison.first == text_digest(self.example.better)


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """What the judge said of a case. `shown_a`, `shown_b`: the probability that `better` is the better, when it was
    shown as A and when it was shown as B. `mass`: the least that the two options held together in either order.

    Outcomes, the first that fits: `unreadable` (an order held less than the rule's `min_mass`), `order` (the two orders
    name different answers), `wrong` (both name `worse`), `unsure` (they name none, or the margin |p1 + p2 - 1| is under
    the rule's `min_margin`, so that the verdict would have no vote), `passed` (both name `better`). And `left_out`: the
    judge could not be asked, as `said` says; the numbers are not known (NaN).
    """

    case: ExampleCase
    outcome: Outcome
    shown_a: float
    shown_b: float
    mass: float
    said: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @property
    def margin(self) -> float:
        return self.shown_a + self.shown_b - 1

    @property
    def even(self) -> bool:
        """Exactly one half in both orders: what a principle says that abstains."""
        return self.shown_a == self.shown_b == 0.5


def plan(constitution: Constitution, ids: Sequence[str] = ()) -> list[ExampleCase]:
    """Every example of the constitution, or of the principles named, in the order of the file.

    Raises UserError for an id that is not there, a pair of equal answers, or when there is no example at all.
    """
    known = [p.id for p in constitution]
    unknown = [id for id in ids if id not in known]
    if unknown:
        raise UserError(f"there is no principle {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [p for p in constitution if p.id in ids or not ids]
    cases = [_case(p, number, e) for p in chosen for number, e in enumerate(p.examples, 1)]
    if not cases:
        whose = f"under {', '.join(dict.fromkeys(ids))}" if ids else f"in the constitution {constitution.name!r}"
        raise UserError(
            f"there is nothing to test: no example {whose}. Write a pair whose winner you know under a principle:\n\n"
            f"{HOW}\n"
        )
    return cases


def _case(principle: Principle, number: int, example: Example) -> ExampleCase:
    better, worse = text_digest(example.better), text_digest(example.worse)
    if better == worse:
        raise UserError(
            f"example {number} of {principle.id}: `better` and `worse` are the same text, so neither can win; make "
            "them differ in what the principle is about"
        )
    return ExampleCase(principle, number, example, Comparison.of(dialogue_id(example.prompt), better, worse))


def without_examples(constitution: Constitution) -> list[str]:
    """Ids of principles that nothing tests."""
    return [p.id for p in constitution if not p.examples]


def wanted(cases: Sequence[ExampleCase], questions: Mapping[str, Id]) -> dict[Id, set[Id]]:
    """By comparison, the questions to be asked about it: an example speaks of its own principle alone. `questions`: by
    principle's id."""
    asked: dict[Id, set[Id]] = {}
    for case in cases:
        asked.setdefault(case.comparison.id, set()).add(questions[case.principle.id])
    return asked


def left_out(case: ExampleCase, said: str) -> ExampleResult:
    """An example that the judge could not be asked about."""
    return ExampleResult(case, "left_out", math.nan, math.nan, math.nan, said)


def result(case: ExampleCase, verdict: Verdict, rule: LabelRule) -> ExampleResult:
    """What a verdict says of an example, by the label rule in force. Integers, as the labels' own query has them."""
    # p1 and p2 are of the comparison's first answer, shown as A and shown as B.
    if case.better_first:
        shown_a, shown_b = verdict.p1, verdict.p2
    else:  # `better` was shown as B in the first order, as A in the second
        shown_a, shown_b = PROBABILITY - verdict.p2, PROBABILITY - verdict.p1
    mass = min(verdict.mass1, verdict.mass2)
    return ExampleResult(
        case, _outcome(shown_a, shown_b, mass, rule), shown_a / PROBABILITY, shown_b / PROBABILITY, mass / PROBABILITY
    )


def _outcome(shown_a: int, shown_b: int, mass: int, rule: LabelRule) -> Outcome:
    one, other = 2 * shown_a - PROBABILITY, 2 * shown_b - PROBABILITY  # above 0: this order names `better`
    if mass < round(rule.min_mass * PROBABILITY):
        return "unreadable"
    if one * other < 0:
        return "order"
    if one < 0 and other < 0:
        return "wrong"
    if one == 0 or other == 0 or abs(shown_a + shown_b - PROBABILITY) < round(rule.min_margin * PROBABILITY):
        return "unsure"
    return "passed"


def reason(found: ExampleResult, rule: LabelRule, method: str = "choice") -> str:
    """Why an example failed, in a line. `method`: of the role's judge, asked where the principle names none."""
    how = _how(found, method)
    if found.outcome == "left_out":
        return f"the judge could not be asked: {found.said}"
    if found.outcome == "unreadable":
        options = "the words of the scale" if how == "rating" else "A and B"
        return f"{options} held {found.mass:.3f} of the probability, less than label.min_mass = {rule.min_mass:g}"
    if found.outcome == "order":
        place = "first" if found.shown_a > found.shown_b else "last"
        return f"the judge names whichever reply is shown {place}"
    if found.outcome == "wrong":
        return {
            "rule": "`worse` keeps the checks and `better` does not, or `better` misses them by more",
            "contrast": "next to `better`, `worse` is the likelier where the principle is kept",
            "reward": "`worse` has the higher reward",
            "rating": "`worse` is rated higher",
        }.get(how, "both orders name `worse`")
    if found.outcome == "unsure":
        if found.even and how == "rule":
            return "code tells no difference: both replies keep the checks, or both break them, or it cannot be told"
        if found.even:
            return "exactly one half in both orders: it abstains"
        return f"the margin {abs(found.margin):.3f} is under label.min_margin = {rule.min_margin:g}: it would not vote"
    return "both orders name `better`"


def advice(found: ExampleResult, method: str = "choice") -> str:
    """What to do about one that failed, by who judged it; nothing for one that passed."""
    principle, how = found.case.principle, _how(found, method)
    if found.outcome == "unsure" and found.even and principle.when is not None:
        settles = " and ".join(f"`{name}`" for name in ("rule", "ask") if getattr(principle.when, _WHEN[name]))
        if settles:
            return (
                f"Look at {settles} of `when`: where it leaves the prompt out, the principle abstains. "
                + _BY_JUDGE.get((how, found.outcome), ADVICE[found.outcome])
            )
    return _BY_JUDGE.get((how, found.outcome), ADVICE[found.outcome])


def _how(found: ExampleResult, method: str) -> str:
    by = found.case.principle.judge
    return by.method if by is not None else method


_WHEN = {"rule": "rule_json", "ask": "ask"}
_BY_JUDGE: Mapping[tuple[str, Outcome], str] = {
    (
        "rule",
        "wrong",
    ): "Mend the checks of `judge`, or, if `worse` is right, the example. `comparison` is read by no judge here.",
    ("rule", "unsure"): "Make the example's answers differ in what is checked, so that `better` keeps all of it and "
    "`worse` does not, or mend the checks of `judge`; with `graded: true` the one that comes nearer wins.",
    (
        "contrast",
        "wrong",
    ): "No question is asked: reword what `keeps` and `breaks` say, with `comparison` in them unless the "
    "file says otherwise, or, if `worse` is right, fix the example. Where many fail, name another `judge`.",
    (
        "contrast",
        "unsure",
    ): "The two answers are about as much likelier where the principle is kept: let them differ in what "
    "it is about, lower `scale`, or name another `judge`.",
    ("reward", "wrong"): "A reward reads none of the principle's words: name another `judge` for it, or another reward "
    "model, or, if `worse` is right, fix the example.",
    ("reward", "unsure"): "The two rewards are near each other: lower `scale`, or name another `judge`.",
    (
        "rating",
        "unsure",
    ): "The two are rated nearly alike: make `comparison` name one thing, and let the example's answers "
    "differ in that alone, or name another `judge`.",
    ("rating", "unreadable"): "The judge did not answer with a word of `scale`: look at `begins` and `scale`, or use a "
    "model that follows instructions.",
}


ADVICE: Mapping[Outcome, str] = {
    "passed": "",
    "left_out": "Shorten the example, or use a judge that reads more.",
    "wrong": "Reword `comparison` so that it asks for what `better` does, or, if `worse` is right, fix the example.",
    "order": "The judge cannot tell the two apart by this question: say in plainer words what a good reply does, make "
    "the example's answers differ in that alone, or use another judge.",
    "unsure": "Make `comparison` name one thing, and let the example's answers differ in that alone. Near 0.5 in both "
    "orders the judge cannot tell at all: then use another judge.",
    "unreadable": "The judge did not answer with A or B: look at judge.template_args (thinking off) and "
    "judge.answer_prefix, or use a model that follows instructions.",
}
