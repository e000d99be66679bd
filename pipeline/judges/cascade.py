"""Two judges: a small one is asked first, and a large one where the small one is unsure: where its orders name
different answers, where it is no more than `margin` from the middle over both orders, where its options held less than
`mass`, or where its engine refused.

What this costs in truth is measured, not assumed: of the verdicts that the small judge is sure of, a share (`sample`,
drawn by a hash of what is asked) is put to the large one as well. Those verdicts stay the small one's, so a larger
sample changes no label and is no part of the question. What the large judge said is kept with the verdict, in its
reason (for people to read), and `disagreement` counts how often the two name different answers, with an interval. That
is an error only as far as the large judge is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import PROBABILITY, Id, Question, Reason, Verdict, canonical, make_id
from pipeline import plugins
from pipeline.asking import Role
from pipeline.judges.checked import checked
from pipeline.judges.judge import Another, Case, Judge, Judged, Omitted
from pipeline.metrics.intervals import Share
from pipeline.options import Options, read, within

MARK = "[cascade] "
OF_A_JUDGE = ("method", "judge_options")  # what `large` has beside the settings of a role

Key = tuple[Id, Id]  # of a comparison and of a question


class CascadeOptions(Options):
    large: dict[str, Any]  # a role's settings, and the large judge's method and judge_options
    method: str = "choice"  # of the small judge, which has the role's own model
    judge_options: dict[str, Any] = Field(default_factory=dict)  # of the small judge
    margin: float = Field(0.5, ge=0, le=1)  # |p1 + p2 - 1| from which it is sure
    mass: float = Field(0.5, ge=0, le=1)  # that its options hold at least, in both orders
    sample: float = Field(0.05, ge=0, le=1)  # of the sure ones, asked of the large judge as well


class CascadeJudge:
    def __init__(self, small: Judge, large: Judge, options: CascadeOptions) -> None:
        self.small, self.large, self.options = small, large, options
        self.fingerprint = make_id("cascade", small=small.fingerprint, large=large.fingerprint).hex()
        self.apart = all(getattr(judge, "apart", False) for judge in (small, large))
        self._questions: dict[Principle, Question] = {}

    def question(self, principle: Principle) -> Question:
        if principle not in self._questions:
            both = [self.small.question(principle), self.large.question(principle)]
            how: dict[str, object] = {"method": "cascade", "judges": [dict(q.readout) for q in both]}
            how |= self.options.model_dump(include={"margin", "mass"}, exclude_defaults=True)
            template = canonical([q.template for q in both])
            self._questions[principle] = Question(self.fingerprint, how, template, principle.id)
        return self._questions[principle]

    def judge(self, cases: Sequence[Case]) -> Judged:
        small = checked(self.small, cases, self.small.judge(cases))
        of_small = {(v.comparison, v.question): v for v in small.verdicts}
        wanted = [(case, principle) for case in cases for principle in case.principles]
        sure = {
            key
            for case, p in wanted
            if (v := of_small.get(key := (case.comparison.id, self.small.question(p).id))) and self._is_sure(v)
        }
        further = []
        for case in cases:
            asked = tuple(p for p in case.principles if self._goes_on(case, p, sure))
            if asked:
                further.append(replace(case, principles=asked))
        large = checked(self.large, further, self.large.judge(further)) if further else Judged([])
        of_large = {(v.comparison, v.question): v for v in large.verdicts}
        refused = {(o.comparison, o.question): o.refused for o in large.omitted}
        gave = {"small": _by_order(small.reasons), "large": _by_order(large.reasons)}
        verdicts, omitted, reasons = [], [], []
        for case, principle in wanted:
            question, comparison = self.question(principle).id, case.comparison.id
            ours = (comparison, self.small.question(principle).id)
            theirs = (comparison, self.large.question(principle).id)
            if ours not in sure and theirs not in of_large:
                omitted.append(Omitted(question, comparison, refused[theirs]))
                continue
            decided: Literal["small", "large"] = "small" if ours in sure else "large"
            found = of_small[ours] if decided == "small" else of_large[theirs]
            verdicts.append(replace(found, question=question))
            texts = gave[decided].get(ours if decided == "small" else theirs, {})
            if theirs in of_large or texts:
                said = {
                    "decided": decided,
                    **_numbers("small", of_small.get(ours)),
                    **_numbers("large", of_large.get(theirs)),
                }
                reasons += [
                    Reason(
                        question, comparison, shown, "\n".join([MARK + canonical(said), texts.get(shown, "")]).strip()
                    )
                    for shown in ORDERS
                ]
        return Judged(verdicts, reasons, small.used + large.used, tuple(omitted))

    def _is_sure(self, verdict: Verdict) -> bool:
        half = PROBABILITY // 2
        same = (verdict.p1 > half) == (verdict.p2 > half) and half not in (verdict.p1, verdict.p2)
        wide = abs(verdict.p1 + verdict.p2 - PROBABILITY) >= self.options.margin * PROBABILITY
        return same and wide and min(verdict.mass1, verdict.mass2) >= self.options.mass * PROBABILITY

    def _goes_on(self, case: Case, principle: Principle, sure: set[Key]) -> bool:
        """Whether the large judge is asked: the small one is unsure, or the pair is of the sample."""
        if (case.comparison.id, self.small.question(principle).id) not in sure:
            return True
        drawn = make_id("cascade_sample", question=self.question(principle).id, comparison=case.comparison.id)
        return int.from_bytes(drawn[:8], "big") < self.options.sample * 2**64


ORDERS: tuple[Literal[1, 2], ...] = (1, 2)


def disagreement(reasons: Iterable[Reason]) -> Share:
    """Of the sampled verdicts that the small judge was sure of, how many name another answer than the large judge. What
    a model wrote stands behind the first line of a reason, and counts for nothing here."""
    said = {}
    for reason in reasons:
        if reason.text.startswith(MARK):
            of = json.loads(reason.text.partition("\n")[0].removeprefix(MARK))
            if of["decided"] == "small" and "large" in of:
                said[reason.question, reason.comparison] = (
                    sum(of["small"]) - PROBABILITY,
                    sum(of["large"]) - PROBABILITY,
                )
    return Share(sum(small * large < 0 for small, large in said.values()), len(said))


def _numbers(name: str, verdict: Verdict | None) -> dict[str, list[int]]:
    return {} if verdict is None else {name: [verdict.p1, verdict.p2]}


def _by_order(reasons: Iterable[Reason]) -> dict[Key, dict[int, str]]:
    found: dict[Key, dict[int, str]] = {}
    for reason in reasons:
        found.setdefault((reason.comparison, reason.question), {})[reason.shown] = reason.text
    return found


def build(role: Role, options: Mapping[str, Any], another: Another) -> CascadeJudge:
    given = read(CascadeOptions, "the cascade judge", options)
    method, own = given.large.get("method", "choice"), given.large.get("judge_options", {})
    if not isinstance(method, str) or not isinstance(own, Mapping):
        raise UserError("the cascade judge: large.method is a judge's name, and large.judge_options are its options")
    settings = {key: value for key, value in given.large.items() if key not in OF_A_JUDGE}
    with within("judge_options"):
        small = _made(given.method, role, given.judge_options, another)
    with within("large"):
        further = another(settings)
    with within("large", "judge_options"):
        large = _made(method, further, own, another)
    return CascadeJudge(small, large, given)


def _made(method: str, role: Role, options: Mapping[str, Any], another: Another) -> Judge:
    judge: Judge = plugins.load("pipeline.judges", "build", method, "judge").build(role, options, another)
    return judge
