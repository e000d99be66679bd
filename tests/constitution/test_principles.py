"""A file says what it says, its version hashes what matters, and a draw moves only when it must."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import constitution
from constitution import loading
from constitution.principles import Constitution, Exemplar, JudgedBy, Principle, When, draw
from constitution.records import Message, make_id

FULL = """\
# A comment that is kept.
constitution: "Ours: first"
version: 1
principles:
  - id: harmless
    title: no
    critique: >
      Runs over
      two lines.
    revision: |
      First line: kept.
      Second line.
    comparison: 12:30:00
    weight: 0.125
    tags: [harm, on]
    applies: when "it" bites
    exemplars:
      - prompt: Hi
        response: r
        critique: c
        revision: v
    examples:
      - prompt:
          - {role: system, content: Be kind}
          - {role: user, content: Hi}
        better: good
        worse: bad
  - id: plain
    title: Plain
    critique: '  spaces outside go  '
    revision: r
    comparison: k
"""


def _principle(name: str, **changes) -> Principle:
    return replace(Principle(name, f"t {name}", f"c {name}", f"r {name}", f"k {name}"), **changes)


def _constitution(*ids: str) -> Constitution:
    return Constitution("test", tuple(_principle(id) for id in ids))


def test_every_key_is_read():
    constitution = loading.parse(FULL)
    assert constitution.name == "Ours: first"
    assert constitution.source == FULL
    assert len(constitution) == 2
    harmless = constitution["harmless"]
    assert harmless.title == "no"  # YAML 1.1 reads this as False
    assert harmless.critique == "Runs over two lines."
    assert harmless.revision == "First line: kept.\nSecond line."
    assert harmless.comparison == "12:30:00"  # YAML 1.1 reads this as 45000
    assert harmless.weight == 125
    assert harmless.tags == ("harm", "on")
    assert harmless.applies == 'when "it" bites'
    assert harmless.exemplars == (Exemplar((Message("user", "Hi"),), "r", "c", "v"),)
    assert harmless.examples[0].prompt == (Message("system", "Be kind"), Message("user", "Hi"))
    assert (harmless.examples[0].better, harmless.examples[0].worse) == ("good", "bad")
    plain = constitution["plain"]
    assert plain.critique == "spaces outside go"
    assert (plain.weight, plain.tags, plain.applies, plain.exemplars, plain.examples) == (1000, (), "", (), ())


def test_load_reads_what_parse_reads(tmp_path):
    path = tmp_path / "principles.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())  # as a Windows editor saves it
    loaded = loading.load(path)
    assert loaded.principles == loading.parse(FULL).principles
    assert loaded.version == loading.parse(FULL).version


def test_weights_are_integers_in_thousandths():
    assert loading.parse(FULL).weights() == {"harmless": 125, "plain": 1000}


def test_an_unknown_id_is_a_key_error():
    with pytest.raises(KeyError):
        loading.parse(FULL)["nobody"]


# --- version -----------------------------------------------------------------------------------------------------


def test_the_version_is_pinned():
    """Ratified versions are stored: if this changes, none of them is known any more."""
    assert loading.parse(FULL).version == "8c192b0965a99e4592a8ed8583b9180c"


@pytest.mark.parametrize(
    "change",
    [
        {"critique": "other"},
        {"revision": "other"},
        {"comparison": "other"},
        {"weight": 999},
        {"tags": ("x",)},
        {"applies": "other"},
        {"exemplars": (Exemplar((Message("user", "p"),), "r", "c", "v"),)},
        {"id": "other"},
        {"why": "other"},
        {"tier": 1},
        {"hard": True},
        {"overridable": ("user",)},
        {"judge": JudgedBy("rule", '{"max_words":80}')},
        {"when": When(tags=("x",))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_version_covers_what_can_change_a_request_a_draw_or_a_label(change):
    before = Constitution("n", (_principle("a"), _principle("b")))
    after = Constitution("n", (_principle("a", **change), _principle("b")))
    assert before.version != after.version


def test_the_version_leaves_out_what_people_alone_read():
    before = Constitution("n", (_principle("a", tags=("x", "y")), _principle("b")), "text")
    after = Constitution("other", (_principle("b", title="new"), _principle("a", tags=("y", "x", "x"))), "# text")
    assert before.version == after.version
    examples = loading.parse(FULL)["harmless"].examples
    assert _principle("a").digest == _principle("a", examples=examples).digest


def test_every_new_key_is_read_and_told_as_the_file_says_it():
    keys = """    why: because people ask
    tier: 2
    overridable: [user, operator, user]
    judge: {method: rule, max_words: 80, phrases: [a, b]}
    when: {tags: [harm], rule: {contains: kite}, ask: Could this hurt somebody?}
"""
    principle = loading.parse(FULL.replace("    title: Plain\n", "    title: Plain\n" + keys))["plain"]
    assert (principle.why, principle.tier, principle.hard) == ("because people ask", 2, False)
    assert principle.overridable == ("operator", "user")
    assert principle.judge == JudgedBy("rule", '{"max_words":80,"phrases":["a","b"]}')
    assert principle.when == When(("harm",), '{"contains":"kite"}', "Could this hurt somebody?")
    said = principle.as_dict()
    assert said["judge"] == {"method": "rule", "max_words": 80, "phrases": ["a", "b"]}
    assert said["when"] == {"tags": ["harm"], "rule": {"contains": "kite"}, "ask": "Could this hurt somebody?"}
    assert hash(principle)
    short = loading.parse(FULL.replace("    title: Plain\n", "    title: Plain\n    judge: reasoned\n    hard: true\n"))
    assert (short["plain"].judge, short["plain"].hard) == (JudgedBy("reasoned"), True)
    assert short["plain"].as_dict()["judge"] == {"method": "reasoned"}


def test_layout_and_comments_are_not_in_the_version():
    relaid = FULL.replace("title: Plain", 'title:   "Plain"   # a comment').replace(
        "[harm, on]", "\n      - harm\n      - on"
    )
    assert relaid != FULL
    assert loading.parse(relaid).version == loading.parse(FULL).version


# --- draw --------------------------------------------------------------------------------------------------------

ids = st.lists(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True), min_size=2, max_size=12, unique=True)
seeds = st.integers(0, 2**63 - 1)
PROMPTS = [make_id("prompt", n=n) for n in range(6)]


def _draws(constitution: Constitution, seed: int, prompts=PROMPTS, rounds=2) -> list[str]:
    return [draw(constitution, seed, prompt, round).id for prompt in prompts for round in range(rounds)]


@settings(deadline=None)
@given(ids, seeds, st.randoms())
def test_order_titles_weights_and_words_move_no_draw(names, seed, random):
    constitution = _constitution(*names)
    shuffled = random.sample(names, len(names))
    other = Constitution(
        "other", tuple(_principle(n, weight=5, title="t", critique="c", tags=("x",)) for n in shuffled)
    )
    assert _draws(constitution, seed) == _draws(other, seed)


@settings(deadline=None)
@given(ids, seeds)
def test_a_newcomer_only_takes_and_a_leaver_only_gives(names, seed):
    without, with_one = _constitution(*names[:-1]), _constitution(*names)
    for before, after in zip(_draws(without, seed), _draws(with_one, seed), strict=True):
        assert after in (before, names[-1])


@pytest.mark.parametrize("n", [2, 8, 16])
def test_adding_one_to_n_takes_one_draw_in_n_plus_1(n):
    prompts = [make_id("prompt", n=i) for i in range(1500)]
    before = _draws(_constitution(*(f"p{i}" for i in range(n))), 1, prompts, rounds=1)
    after = _draws(_constitution(*(f"p{i}" for i in range(n + 1))), 1, prompts, rounds=1)
    moved = sum(b != a for b, a in zip(before, after, strict=True)) / len(prompts)
    share = 1 / (n + 1)
    assert moved == pytest.approx(share, abs=4 * (share * (1 - share) / len(prompts)) ** 0.5)


def test_draws_are_uniform_and_independent_between_rounds_prompts_and_seeds():
    constitution = _constitution(*"abcd")
    prompts = [make_id("prompt", n=i) for i in range(2000)]
    first = _draws(constitution, 1, prompts, rounds=1)
    counts = Counter(first)
    assert set(counts) == set("abcd")
    assert all(abs(count - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5 for count in counts.values())
    second = [draw(constitution, 1, prompt, 1).id for prompt in prompts]
    other_seed = _draws(constitution, 2, prompts, rounds=1)
    for other in (second, other_seed):
        same = sum(a == b for a, b in zip(first, other, strict=True))
        assert abs(same - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5


def test_draws_are_pinned():
    constitution = _constitution("helpful", "honest", "harmless")
    drawn = [draw(constitution, 42, make_id("prompt", n=n), 0).id for n in range(6)]
    assert drawn == ["helpful", "helpful", "honest", "harmless", "harmless", "helpful"]


def test_the_pure_part_needs_neither_yaml_nor_pydantic():
    code = (
        "import sys, constitution.principles, constitution.difference;"
        "print([m for m in ('ruamel.yaml', 'pydantic', 'rich') if m in sys.modules])"
    )
    root = Path(constitution.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
