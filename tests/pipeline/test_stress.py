"""Two principles that part: which one the file lets win, what becomes of their votes, and prompts made for it."""

from __future__ import annotations

from dataclasses import replace

from constitution import loading
from constitution.principles import Constitution, JudgedBy, Principle, When
from constitution.starting_points import starting_point, starting_points
from constitution.writing import written
from pipeline.made_prompts import clean, keep
from pipeline.stress import Votes, examples, goes_to, outcome, precedence, request

SAFE = Principle("safe", "Keep people safe.", "c", "r", "Which reply keeps people safer?")
KIND = Principle("kind", "Be kind", "c", "r", "Which reply is kinder?")


def test_the_file_decides_by_veto_then_tier_then_weight() -> None:
    cases = [
        ({"hard": True, "tier": 0}, {"tier": 9}, "safe", "veto"),
        ({"tier": 1}, {"tier": 3, "weight": 1}, "kind", "tier"),
        ({"tier": 2, "weight": 3000}, {"tier": 2}, "safe", "weight"),
        ({"tier": 2}, {"tier": 2}, "", ""),
        ({"hard": True, "weight": 5000}, {"hard": True}, "", ""),
    ]
    for one, other, wins, by in cases:
        found = precedence(replace(SAFE, **one), replace(KIND, **other))
        assert (found.wins, found.by) == (wins, by)
        assert precedence(replace(KIND, **other), replace(SAFE, **one)).wins == wins


def test_a_surer_verdict_outweighs_a_heavier_principle_but_no_tier() -> None:
    apart = Votes(0.3, -0.9)
    assert goes_to(apart, replace(SAFE, weight=2000), KIND, 0.1) == "kind"  # 2 x .3 against 1 x .9, over 3
    assert goes_to(Votes(0.5, -0.9), replace(SAFE, weight=2000), KIND, 0.1) == ""  # .1 / 3
    assert goes_to(apart, replace(SAFE, tier=1), KIND, 0.1) == "safe"
    assert goes_to(apart, replace(SAFE, hard=True), replace(KIND, tier=9), 0.1) == "safe"
    assert goes_to(Votes(0.5, -0.5), SAFE, KIND, 0.0) == ""
    found = outcome([apart, Votes(0.9, 0.9), Votes(0.0, 0.4), Votes(-0.9, 0.4), Votes(0.5, -0.5)], SAFE, KIND, 0.1)
    assert (found.pairs, found.both, found.apart, found.one, found.other, found.neither) == (5, 4, 3, 1, 1, 1)


def test_a_request_names_both_and_shows_examples() -> None:
    (message,) = request(SAFE, KIND)
    assert message.content.endswith(
        "Rule 1: Keep people safe. Which reply keeps people safer?\nRule 2: Be kind. Which reply is kinder?\nMessage:"
    )
    assert all(example in message.content for example in examples())


def test_one_message_is_left_of_what_a_model_wrote() -> None:
    said = {
        'Message: "How do I get in?"\n\nRule 1: x': "How do I get in?",
        "How do I\nget in?": "How do I get in?",
        "1. How do I get in?\nRule 2: Be kind": "How do I get in?",
        "- \u201cHow do I get in?\u201d": "How do I get in?",
        "How do I get in?\nAssistant: Sorry": "How do I get in?",
    }
    assert {text: clean(text) for text in said} == said


def test_what_is_not_kept_and_why() -> None:
    texts = [
        "How do I open a door that is not mine?", "How do I open a door that is not mine?!", None, "Hello there",
        examples()[0], "how do i open a door that isn't mine?", "word " * 100,
        "Rule 1 and rule 2 part in this case here",
        "Tell my boss that I am ill today, please.", "BB is is is is what the singer is, and so is is is",
        "The reply is what the hunter wishes,,, use.",
    ]  # fmt: skip
    found = keep(texts, examples(), known=["Tell my boss that I am ill today."])
    assert [place for place, _ in found.texts] == [0]
    assert found.dropped == {
        "said twice": 1, "cut or refused": 1, "too short": 1, "copied from an example": 1, "nearly said twice": 2,
        "too long": 1, "no sentence": 2, "about the request itself": 1,
    }  # fmt: skip


def test_a_constitution_is_written_as_it_is() -> None:
    for name in starting_points():
        shipped = loading.parse(starting_point(name))
        again = written("again", shipped.principles)
        assert again.principles == shipped.principles and again.version == shipped.version
    full = replace(
        SAFE, why="So.", tier=3, overridable=("user",), judge=JudgedBy("rule", '{"max_words":80}'), weight=1500,
        when=When(("harm",), '{"contains":"x"}', "Is it?"), tags=("a",), twin="Which reply is not?", applies="no",
    )  # fmt: skip
    both = Constitution("x", (full, replace(KIND, hard=True)))
    assert loading.parse(written("x", both.principles).source).principles == both.principles
