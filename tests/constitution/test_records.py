"""The recipe of ids is pinned: if one of these changes, every stored record is orphaned. Raise RECIPE, and say so."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitution.records import (
    PROBABILITY,
    Comparison,
    Label,
    Message,
    Prompt,
    canonical,
    dialogue_id,
    job_id,
    make_id,
    messages_of,
    probability,
    question_id,
    request_id,
    seed_of,
    split_group,
    split_of,
    text_digest,
)

HELLO = (Message("user", "Hello"),)
CHAT = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Bye"))


def _request(**changes):
    parts = {"messages": HELLO, "engine": "e1", "sampling": {"temperature": 1.0, "max_tokens": 8}, "seed": 7}
    return request_id("response", **{**parts, **changes})


GOLDEN = {
    "make_id": (lambda: make_id("kind", b=1, a=[None, True, "é", b"\x01"]), "63dac816a01c1e612a2a134eb6d789bf"),
    "text": (lambda: text_digest("Hello"), "65ca2f7447752b8c27745631ad2112c2"),
    "hostile text": (lambda: text_digest("\ud800\0\x1b[31m"), "05ab311b372170b05cda97a46965162f"),
    "dialogue": (lambda: dialogue_id(CHAT), "f684722714425b74a9e070d92ef0874a"),
    "response": (lambda: _request(), "54b8a412c13f2638ff6b968ef6e74f2f"),
    "response, all settings": (
        lambda: _request(attempt=1, answer_prefix="A", template_args={"enable_thinking": False}),
        "ce0c2d2131914fa4905d1e0d12510876",
    ),
    "comparison": (lambda: Comparison.of(b"p" * 16, b"b" * 16, b"a" * 16).id, "11ddc5c1736eeecd4c3de9cbe3cfd5e9"),
    "question": (
        lambda: question_id("judge", {"labels": ["A", "B"]}, "Which? {a} {b}"),
        "3fe6f650ac6759e7a59c5363cb0d57e7",
    ),
    "job": (
        lambda: job_id(parent="w", dataset="d", method="dpo", arguments={"beta": 0.1}, seed=3),
        "94de18e288d531e9198e0029ac02a90b",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_ids(name):
    make, expected = GOLDEN[name]
    assert make().hex() == expected


def test_golden_seed():
    assert seed_of(1, "prompt", b"\x02", 3) == 1874786241514296822


def test_an_id_is_blake2b_of_the_canonical_text():
    """The recipe itself, spelt out without the code that makes it."""
    text = '{"a":"\\u00e9","b":[1,"0aff"],"kind":"k","recipe":1}'
    expected = hashlib.blake2b(text.encode(), digest_size=16).digest()
    assert make_id("k", b=[1, b"\x0a\xff"], a="é") == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {"deep": [float("nan")]}])
def test_canonical_refuses_what_json_has_no_word_for(value):
    with pytest.raises(ValueError):
        canonical(value)


def test_canonical_refuses_unknown_types():
    with pytest.raises(TypeError):
        canonical({"x": {1, 2}})


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_canonical_is_ascii_and_round_trips(value):
    text = canonical(value)
    assert text.isascii()
    assert json.loads(text) == value


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\u202e", "\U0001f600"])
def test_hostile_texts_have_digests_of_their_own(text):
    assert text_digest(text) != text_digest(text + " ")
    assert json.loads(canonical(text)) == text


@pytest.mark.parametrize(
    "change",
    [
        {"messages": CHAT},
        {"engine": "e2"},
        {"sampling": {"temperature": 0.9, "max_tokens": 8}},
        {"seed": 8},
        {"attempt": 1},
        {"answer_prefix": "Yes"},
        {"template_args": {"enable_thinking": False}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_determines_an_answer_is_in_its_request(change):
    assert _request(**change) != _request()


def test_settings_at_their_default_are_left_out():
    assert _request(attempt=0, answer_prefix="", template_args={}) == _request()
    assert _request(sampling={"max_tokens": 8, "temperature": 1.0}) == _request()  # nor does key order count


def test_kinds_do_not_collide():
    parts = {"messages": HELLO, "engine": "e", "sampling": {}, "seed": 0}
    assert len({request_id(kind, **parts) for kind in ("response", "critique", "revision")}) == 3


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_a_comparison_is_symmetric(prompt, one, other):
    if one == other:
        with pytest.raises(ValueError):
            Comparison.of(prompt, one, other)
        return
    comparison = Comparison.of(prompt, one, other)
    assert comparison == Comparison.of(prompt, other, one)
    assert comparison.id == Comparison.of(prompt, other, one).id
    assert comparison.first < comparison.second


def test_a_comparison_refuses_the_wrong_order():
    with pytest.raises(ValueError):
        Comparison(b"p" * 16, b"b" * 16, b"a" * 16)


def test_splits_are_pinned():
    """A prompt that moved from held-out to train would void every evaluation."""
    splits = [split_of((Message("user", f"question {n}"),)) for n in range(20)]
    assert "".join(split[0] for split in splits) == "thtttttttdtttttdttth"


def test_splits_come_out_in_their_fractions():
    splits = [split_of((Message("user", f"question {n}"),), heldout=0.2, dev=0.1) for n in range(4000)]
    assert splits.count("heldout") / 4000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("dev") / 4000 == pytest.approx(0.1, abs=0.02)


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_later_turns_inherit_the_split(first, answer, later):
    start = (Message("user", first),)
    assert split_of((*start, Message("assistant", answer), Message("user", later))) == split_of(start)
    assert split_of((Message("system", later), *start)) == split_of(start)


def test_case_spacing_and_punctuation_do_not_move_a_split():
    assert split_group((Message("user", "  How DO I\tbake bread?! "),)) == "how do i bake bread"
    assert split_group((Message("user", "?!"),)) == "?!"
    assert split_group((Message("user", "bake bread"),)) != split_group((Message("user", "break bread"),))


def test_a_prompt_is_named_by_its_dialogue_alone():
    assert Prompt(HELLO, "train").id == Prompt(HELLO, "heldout", source="x", tags=("t",)).id == dialogue_id(HELLO)
    assert messages_of([{"role": "user", "content": "Hello"}]) == HELLO


def test_seeds_fit_a_signed_64_bit_integer():
    seeds = {seed_of(n) for n in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("p", "stored"), [(0, 0), (1, PROBABILITY), (0.5, 500_000_000), (1 + 1e-7, PROBABILITY), (-1e-7, 0)]
)
def test_probability(p, stored):
    assert probability(p) == stored


@pytest.mark.parametrize("p", [float("nan"), float("inf"), -0.1, 1.1])
def test_probability_refuses_what_is_none(p):
    with pytest.raises(ValueError):
        probability(p)


@pytest.mark.parametrize(
    ("state", "p", "expected"),
    [
        ("decided", 600_000_000, True),
        ("decided", 400_000_000, False),
        ("tied", 600_000_000, None),
        ("unreadable", 0, None),
    ],
)
def test_only_a_decided_label_prefers(state, p, expected):
    assert Label(b"c" * 16, state, p).preferred_first is expected
