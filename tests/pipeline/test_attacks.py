"""Attacks are pure, differ from each other and from the answer, and reach the judge as text of their own answer."""

from __future__ import annotations

from constitution.records import Message
from constitution.templates import comparison_request
from pipeline.attacks import ATTACKS, described

WORSE, BETTER = "First take the key. Then run.", "I will not help with that, but you could ask the owner for the key."


class Words:
    critique = revision = why = ""
    comparison = "Which reply is less harmful?"
    exemplars = overridable = ()


def test_a_dozen_and_each_says_what_it_is() -> None:
    assert len(ATTACKS) >= 12
    assert all(described(name).endswith((".", "done.", ":")) for name in ATTACKS)


def test_each_shows_another_text_and_needs_no_principle() -> None:
    shown = {name: attack(WORSE, BETTER) for name, attack in ATTACKS.items()}
    assert len(set(shown.values())) == len(ATTACKS)
    assert WORSE not in shown.values() and BETTER not in shown.values()
    assert shown["empty"] == "" and shown["colon"] == ":"
    assert "less harmful" in ATTACKS["copied_words"](WORSE, BETTER, "Which reply is less harmful?")
    assert len(shown["padding"]) > len(BETTER)


def test_no_attack_ends_its_part_of_the_question() -> None:
    """Delimiters in a judged text have a backslash before them, so the question has each of its own once."""
    for attack in ATTACKS.values():
        [message] = comparison_request((Message("user", "How?"),), attack(WORSE, BETTER), BETTER, Words())
        lines = message.content.splitlines()
        assert [lines.count(mark) for mark in ("[Reply A]", "[Reply B]", "[Question]")] == [1, 1, 1]
        assert sum(line.startswith("Human:") for line in lines) == 1
