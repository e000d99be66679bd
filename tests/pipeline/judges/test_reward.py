"""A reward as a judge: the probability of Bradley and Terry, and one question for all principles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import PROBABILITY, Voice
from pipeline import judges, label
from pipeline.asking import Role
from pipeline.engines.engine import Refused
from pipeline.judges.judge import Judge, Used
from tests.pipeline.judges.likelihoods import KIND, SHORT, TOO_LONG, Likelihoods, case, text_of

REWARD = """\
from constitution.errors import UserError

calls = []

def score(prompts, answers):
    calls.append(list(answers))
    if any(len(answer) > 8 for answer in answers):
        raise UserError("the answer does not fit")
    return [float(len(answer)) for answer in answers]
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    (tmp_path / "lengths.py").write_text(REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    yield {"kind": "function", "name": "lengths:score"}


def made(options: dict[str, Any], policy: Any = None, reference: Any = None) -> Judge:
    return judges.build("reward", Role(policy or Likelihoods()), options, lambda _: Role(reference or Likelihoods()))


def p_of(judge: Judge, one: str, other: str) -> float:
    asked = case(one, other, KIND)
    [verdict] = judge.judge([asked]).verdicts
    assert verdict.p1 == verdict.p2
    p = verdict.p1 / PROBABILITY
    return p if asked.first == one else 1 - p


def test_the_probability_is_that_of_bradley_and_terry(spec: dict[str, Any]) -> None:
    assert p_of(made({"reward": spec}), "abc", "a") == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-9)
    assert p_of(made({"reward": spec, "scale": 4.0}), "abc", "a") == pytest.approx(1 / (1 + math.exp(-0.5)), abs=1e-9)
    shaped = {**spec, "length_penalty": 100.0}  # a reward unit a character: nothing is left
    assert p_of(made({"reward": shaped}), "abc", "a") == 0.5


def test_the_implicit_reward_of_a_policy_is_what_dpo_taught_it() -> None:
    policy = Likelihoods(lambda chat, text: {"abc": -3.0, "a": -9.0}[text])
    reference = Likelihoods(lambda chat, text: {"abc": -5.0, "a": -6.0}[text])
    judge = made({"reference": {}, "beta": 0.5}, policy, reference)
    # r = 0.5 * (-3 + 5) = 1 and 0.5 * (-9 + 6) = -1.5
    assert p_of(judge, "abc", "a") == pytest.approx(1 / (1 + math.exp(-2.5)), abs=1e-9)
    asked = [r for engine in (policy, reference) for r in engine.scored]
    assert all(r.end for r in asked)
    again = made({"reference": {}, "beta": 0.5}, policy, reference).judge([case("abc", "a", KIND)])
    assert again.used == Used(requests=4, prompt_tokens=sum(len(text_of(r.chat)) for r in asked))


def test_one_question_for_all_principles_and_each_answer_once(spec: dict[str, Any]) -> None:
    judge = made({"reward": spec})
    assert judge.question(KIND).id == judge.question(SHORT).id
    said = judge.judge([case("abc", "a", KIND, SHORT), case("abc", "ab", KIND)])
    assert len(said.verdicts) == 3 and said.used == Used(requests=3)  # three answers
    from constitution.principles import Constitution

    assert label.voices(Constitution("x", (KIND, SHORT)), judge) == {judge.question(KIND).id: Voice(2000)}


def test_nothing_is_loaded_before_it_is_asked(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import rewards

    monkeypatch.setattr(rewards, "build", lambda spec: pytest.fail("it was loaded"))
    assert made({"reward": spec}).question(KIND).readout == {"method": "reward"}


def test_an_answer_that_has_no_reward_takes_no_other_with_it(spec: dict[str, Any]) -> None:
    said = made({"reward": spec}).judge([case("abc", "far too long", KIND), case("abc", "a", KIND)])
    assert len(said.verdicts) == 1
    assert [o.refused for o in said.omitted] == [Refused("refused", "the answer does not fit")]
    with pytest.raises(UserError, match="does not fit"):  # of all of them: that is a mistake of another kind
        made({"reward": spec}).judge([case("also too long", "far too long", KIND)])


def test_a_likelihood_that_is_refused_by_either_model_is_omitted() -> None:
    reference = Likelihoods(lambda chat, text: TOO_LONG if text == "long" else -1.0)
    said = made({"reference": {}}, reference=reference).judge([case("a", "long", KIND), case("a", "b", KIND)])
    assert len(said.verdicts) == 1 and [o.refused for o in said.omitted] == [TOO_LONG]


def test_who_judges_is_in_the_fingerprint(spec: dict[str, Any]) -> None:
    one, other = Likelihoods(), Likelihoods()
    other.fingerprint = "another"
    found = [
        made({"reward": spec}), made({"reward": {**spec, "timeout": 5.0}}), made({"reference": {}}),
        made({"reference": {}, "beta": 0.2}), made({"reference": {}}, other, one), made({"reference": {}}, one, other),
        made({"reference": {}, "scale": 2.0}),
    ]  # fmt: skip
    assert len({judge.question(KIND).id for judge in found}) == 6  # how long a function may take changes nothing


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "the reward judge: it needs either reward .* or reference"),
        ({"reward": {"kind": "function", "name": "x:y"}, "reference": {}}, "it needs either"),
        ({"reward": {"kind": "none"}}, "there is no kind of reward 'none'"),
        ({"reward": {"kind": "model", "paths": ["nowhere"]}}, "nowhere"),
        ({"reward": {"kind": "function", "name": "x:y"}, "beta": 1.0}, "beta does nothing without reference"),
        ({"reference": {}, "beta": 0}, "beta: it has to be greater than 0"),
    ],
)
def test_a_mistake_in_its_options_is_told_before_anything_is_loaded(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        made(options)
