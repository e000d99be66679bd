"""What `precept constitution new` offers loads, teaches the format, and names what it is for."""

from __future__ import annotations

import pytest

from constitution import loading
from constitution.difference import diff
from constitution.starting_points import starting_point, starting_points


def test_there_are_three_and_each_says_what_it_is_for():
    choices = starting_points()
    assert set(choices) == {"assistant", "minimal", "support-desk"}
    assert all(len(text) > 20 for text in choices.values())


@pytest.mark.parametrize(("name", "count"), [("assistant", 12), ("minimal", 3), ("support-desk", 6)])
def test_each_loads_clean(name, count):
    constitution = loading.parse(starting_point(name), f"{name}.yaml")
    assert len(constitution) == count
    assert len({p.comparison for p in constitution}) == count  # no question asked twice
    assert all(p.tags and p.applies for p in constitution)


def test_a_judge_can_be_tried_on_the_assistants_examples():
    constitution = loading.parse(starting_point("assistant"))
    judged = [p for p in constitution if p.judge is None]
    assert len(judged) == 8 and all(len(p.examples) >= 10 for p in judged)
    pairs = [e for p in judged for e in p.examples]
    assert len({e.prompt for e in pairs}) == len(pairs)
    for principle in judged:  # whoever prefers the longer answer is right on about a half of them
        longer = sum(len(e.better.split()) > len(e.worse.split()) for e in principle.examples)
        assert 4 <= longer <= 6
    assert all(p.why and (p.judge is None or p.judge.method == "rule") for p in constitution)


def test_minimal_shows_every_key_of_the_format():
    (full,) = [p for p in loading.parse(starting_point("minimal")) if p.exemplars]
    assert full.examples
    assert full.weight != 1000


def test_they_differ():
    texts = [loading.parse(starting_point(name)) for name in starting_points()]
    assert len({t.version for t in texts}) == 3
    assert diff(texts[0], texts[1]).asks_judge


@pytest.mark.parametrize("name", ["", "nobody", "../starters/minimal", "minimal.yaml"])
def test_no_other_name_is_known(name):
    with pytest.raises(KeyError):
        starting_point(name)
