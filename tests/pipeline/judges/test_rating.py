"""The rating judge against ratings that are worked out by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import PROBABILITY
from pipeline import judges
from pipeline.asking import Role
from pipeline.engines.engine import Choice, Refused
from pipeline.judges.judge import Used
from pipeline.judges.rating import above
from tests.pipeline.judges.likelihoods import KIND, SHORT, TOO_LONG, Likelihoods, case

RATINGS = {
    "good": Choice((0.0, 0.0, 0.2, 0.3, 0.5), 0.9, 100),
    "bad": Choice((0.5, 0.3, 0.2, 0.0, 0.0), 0.7, 100),
    "same": Choice((0.5, 0.3, 0.2, 0.0, 0.0), 0.8, 100),
}


def rated(chat: str, labels: tuple[str, ...]) -> Choice | Refused:
    found = re.search(r"\[Reply A\]\n(\w+)\n", chat)
    assert found and labels == ("1", "2", "3", "4", "5")
    return RATINGS.get(found[1], TOO_LONG)


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        ((1.0, 0.0), (1.0, 0.0), 0.5),
        ((0.0, 1.0), (1.0, 0.0), 1.0),
        ((0.5, 0.5), (1.0, 0.0), 0.75),
        ((0.2, 0.3, 0.5), (0.6, 0.4, 0.0), 0.5 + 0.3 * (0.6 + 0.2) + 0.2 * 0.3),
    ],
)
def test_of_two_distributions(one: tuple[float, ...], other: tuple[float, ...], p: float) -> None:
    assert above(one, other) == pytest.approx(p) and above(other, one) == pytest.approx(1 - p)


def test_the_better_rated_wins_in_both_orders_and_each_reading_has_its_mass() -> None:
    judge = judges.build("rating", Role(Likelihoods(choose=rated)))
    one, tie = case("good", "bad", KIND), case("bad", "same", KIND)
    verdicts = judge.judge([one, tie]).verdicts
    p = 0.98  # all but both at 3 (.2 x .2), which is half
    assert verdicts[0].p1 == verdicts[0].p2 == round((p if one.first == "good" else 1 - p) * PROBABILITY)
    masses = (verdicts[0].mass1, verdicts[0].mass2) if one.first == "good" else (verdicts[0].mass2, verdicts[0].mass1)
    assert masses == (9 * PROBABILITY // 10, 7 * PROBABILITY // 10)
    assert verdicts[1].p1 == pytest.approx(PROBABILITY // 2, abs=1)


def test_each_answer_is_rated_once_a_principle_and_its_principles_share_what_is_before_the_question() -> None:
    engine = Likelihoods(choose=rated)
    judge = judges.build("rating", Role(engine))
    cases = [case("good", "bad", KIND, SHORT), case("bad", "same", KIND), case("good", "same", KIND)]
    said = judge.judge(cases)
    asked = [chat.messages for chat, _ in engine.chosen]
    assert len(asked) == len(set(asked)) == 3 + 2 and said.used == Used(5, 500)
    assert [m[0].content.partition("[Question]")[0] for m in asked[:2]] == 2 * [
        asked[0][0].content.partition("[Question]")[0]
    ]
    assert judge.judge(cases).used == Used()


def test_one_that_is_refused_is_omitted_and_asked_again() -> None:
    engine = Likelihoods(choose=rated)
    judge = judges.build("rating", Role(engine))
    for _ in range(2):
        said = judge.judge([case("good", "long", KIND), case("good", "bad", KIND)])
        assert len(said.verdicts) == 1 and [o.refused for o in said.omitted] == [TOO_LONG]
    assert len(engine.chosen) == 3 + 1


def test_its_answer_begins_as_ratings_do_whatever_letters_need() -> None:
    engine = Likelihoods(choose=rated)
    for options in ({}, {"begins": "I give it a "}):
        judges.build("rating", Role(engine, answer_prefix="The better reply is ("), options).judge(
            [case("good", "bad", KIND)]
        )
    assert [chat.answer_prefix for chat, _ in engine.chosen] == ["Rating: "] * 2 + ["I give it a "] * 2


def test_the_scale_is_in_the_question_where_it_is_not_the_usual_one() -> None:
    role = Role(Likelihoods(choose=rated))
    assert judges.build("rating", role).question(KIND).readout == {"method": "rating"}
    other = judges.build("rating", role, {"scale": ["bad", "good"]}).question(KIND)
    assert other.readout == {"method": "rating", "scale": ["bad", "good"]} and "one of bad, good." in other.template


@pytest.mark.parametrize("scale", [["1"], ["1", "1"], ["1", " "]])
def test_a_scale_that_is_none_is_told(scale: list[Any]) -> None:
    with pytest.raises(UserError, match=r"the rating judge: scale.*its options are scale, begins"):
        judges.build("rating", Role(Likelihoods()), {"scale": scale})
