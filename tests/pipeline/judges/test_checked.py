"""What a judge returns is looked at before it is stored: too little, too much, no numbers, another's questions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import PROBABILITY, Comparison, Message, Question, Reason, Verdict, make_id
from pipeline.judges.checked import checked
from pipeline.judges.judge import Case, Judged, Used

KIND, SHORT = (Principle(name, name, "c", "r", f"Which is {name}?") for name in ("kind", "short"))


class Fair:
    fingerprint = "fair"

    def question(self, principle: Principle) -> Question:
        return Question(self.fingerprint, {"method": "fair"}, principle.comparison, principle.id)

    def judge(self, cases: Any) -> Judged:
        return said(cases)


JUDGE = Fair()


def case(n: int) -> Case:
    ids = sorted((make_id("t", n=n, side=0), make_id("t", n=n, side=1)))
    comparison = Comparison.of(make_id("p", n=n), *ids)
    return Case(comparison, (Message("user", "Hi"),), "one", "other", (KIND, SHORT))


CASES = [case(0), case(1)]


def said(cases: Any = CASES) -> Judged:
    even = PROBABILITY // 2
    return Judged(
        [
            Verdict(JUDGE.question(p).id, c.comparison.id, even, even, PROBABILITY, PROBABILITY)
            for c in cases
            for p in c.principles
        ],
        used=Used(8),
    )


def test_what_keeps_the_contract_is_handed_on_as_it_is() -> None:
    whole = said()
    first = whole.verdicts[0]
    with_reason = replace(whole, reasons=[Reason(first.question, first.comparison, 1, "why\0\ud800")])
    assert checked(JUDGE, CASES, with_reason) is with_reason


def spoilt(**of_first: Any) -> Judged:
    first, *rest = said().verdicts
    return Judged([replace(first, **of_first), *rest])


FOREIGN = make_id("question", of="somebody else's judge")
WRONG = {
    "a list": ([1], "returned a list"),
    "too few": (replace(said(), verdicts=said().verdicts[:-1]), "was asked 4 questions and answered 3"),
    "none": (Judged([]), "answered 0 of them"),
    "one twice": (replace(said(), verdicts=[*said().verdicts, said().verdicts[0]]), "1 that it was not asked"),
    "another's question": (spoilt(question=FOREIGN), "1 that it was not asked"),
    "a share": (spoilt(p1=0.5), "p1 = 0.5: a whole number"),
    "over one": (spoilt(p2=3 * PROBABILITY), "p2 = 3000000000"),
    "below nothing": (spoilt(mass1=-5), "mass1 = -5"),
    "not a number": (spoilt(mass2=float("nan")), "mass2 = nan"),
    "true": (spoilt(p1=True), "p1 = True"),
    "a wild tie": (spoilt(tie1=-1), "tie1 = -1"),
    "a reason of no verdict": (replace(said(), reasons=[Reason(FOREIGN, CASES[0].comparison.id, 1, "x")]), "a reason"),
    "a reason of no order": (
        replace(said(), reasons=[Reason(said().verdicts[0].question, CASES[0].comparison.id, 7, "x")]), "a reason",
    ),
    "less than nothing": (replace(said(), used=Used(-5)), "less than nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_it_is_one_message_that_names_the_judge(name: str) -> None:
    wrong, told = WRONG[name]
    with pytest.raises(UserError, match="nothing of this batch was stored") as error:
        checked(JUDGE, CASES, wrong)
    assert told in str(error.value) and "Fair" in str(error.value)
