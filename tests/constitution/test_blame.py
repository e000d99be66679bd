"""Blame follows lines and fields through hand-made histories, and says what a person would say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constitution.blame import authors, blame, blame_principles
from constitution.problems import ConstitutionError

HEAD = "constitution: x\nversion: 1\nprinciples:\n"


def entry(id: str, weight: float = 1, title: str = "T", **words: str) -> str:
    """One principle; all end in the same two lines, as those of real files do."""
    said = {
        name: words.get(name, f"{name} of {words.get('of', id)}") for name in ("critique", "revision", "comparison")
    }
    lines = [f"  - id: {id}", f"    title: {title}", *(f"    {name}: {text}" for name, text in said.items())]
    return "\n".join([*lines, f"    weight: {weight}", "    applies: always", "", ""])


def written(*texts: str) -> str:
    """The index of each line's writer, one digit a line."""
    return "".join(str(blamed.index) for blamed in blame(texts))


def test_each_line_belongs_to_the_text_that_wrote_it():
    assert written("a\nb\nc\n") == "000"
    assert written("a\nb\nc\n", "a\nB\nc\n") == "010"
    assert written("a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\nd\n") == "0102"
    assert [b.line for b in blame(["a\n", "a\nb"])] == ["a", "b"]
    assert blame([]) == []


def test_a_line_removed_and_brought_back_belongs_to_who_brought_it_back():
    assert written("a\nb\nc\n", "a\nc\n", "a\nb\nc\n") == "020"


def test_line_breaks_are_nobodys_words():
    assert written("a\nb\n", "a\r\nb\r\nc\r\n", "a\nb\nc\n") == "001"
    assert [b.line for b in blame(["a\r\nb\r\n"])] == ["a", "b"]


@pytest.mark.parametrize("before", [["p1"], ["p1", "p2", "p3", "p4"], []])
@pytest.mark.parametrize("after", [["s1"], ["s1", "s2", "s3", "s4"], []])
def test_a_principle_put_between_others_that_end_alike_takes_none_of_their_lines(before, after):
    """As plain as the difference is: difflib alone would match its last lines with its neighbour's."""
    old = [entry(id) for id in before], [entry(id) for id in after]
    texts = HEAD + "".join(old[0] + old[1]), HEAD + "".join([*old[0], entry("new"), *old[1]])
    assert "\n".join(b.line for b in blame(texts) if b.index == 1).split("\n") == entry("new").split("\n")[:-1]
    # And taken out again it takes none along: every other line stays its writer's.
    parts = [*old[0], entry("new"), *old[1]]
    grown = [HEAD + "".join(parts[: n + 1]) for n in range(len(parts))]
    assert written(*grown, texts[0])[3:] == "".join(str(n) * 8 for n in range(len(parts)) if n != len(before))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6).map("\n".join), min_size=1, max_size=5))
def test_a_line_is_never_older_than_the_text_that_first_has_it(texts):
    for blamed in blame(texts):
        assert blamed.line in texts[blamed.index].split("\n")
        assert all(blamed.line in text.split("\n") for text in texts[blamed.index :])


HISTORY = [
    HEAD + entry("a") + entry("b"),
    HEAD + entry("a", weight=2) + entry("b"),  # 1: a weighs more
    HEAD + entry("b", title="Better") + "  # by ada\n" + entry("a", weight=2),  # 2: only for people
    HEAD + entry("b", title="Better") + entry("c", of="a", weight=2),  # 3: a is now called c
    HEAD + entry("b", comparison="Which?") + entry("c", of="a", weight=2),  # 4: b asks anew; its old title is back
]


def test_fields_belong_to_the_text_that_last_changed_their_value():
    wrote = blame_principles(HISTORY)
    assert {field: index for field, index in wrote["b"].items() if index} == {"title": 4, "comparison": 4}
    assert {field: index for field, index in wrote["c"].items() if index} == {"id": 3, "weight": 1}
    assert {id: fields["title"] for id, fields in blame_principles(HISTORY[:4]).items()} == {"b": 2, "c": 0}


def test_authors_changed_what_a_model_reads_or_weighs():
    assert [authors(HISTORY[: n + 1]) for n in range(5)] == [
        {"a": 0, "b": 0},
        {"a": 1, "b": 0},
        {"b": 0, "a": 1},
        {"b": 0, "c": 1},
        {"b": 4, "c": 1},
    ]


def test_a_principle_that_was_away_is_its_restorers():
    gone = HEAD + entry("a")
    assert authors([HISTORY[0], gone, HISTORY[0]]) == {"a": 0, "b": 2}
    assert authors([]) == {}


def test_a_text_that_is_no_constitution_is_refused():
    with pytest.raises(ConstitutionError):
        authors([HISTORY[0], "constitution: x"])
