"""Spot checks at the terminal and what they say of the judge: `precept review` and `precept agreement`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pexpect
import pytest

from cli import main
from pipeline.review import shows_first_left
from storage.store import Store

ROOT = Path(main.__file__).parents[1]


@pytest.fixture
def type_in(precept, monkeypatch):
    """Review with these lines on standard input."""

    def review(lines: str, *options: object):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{key}\n" for key in lines.split())))
        return precept("review", *options)

    return review


def answers(store: Store) -> list[tuple[str, bytes, str, str, str]]:
    return [(c.reviewer, c.comparison, c.answer, c.reason, c.sampled_by) for c in store.spot_checks()]


def spawn(*options: str) -> pexpect.spawn[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "LINES": "60"}
    words = ["-m", "cli.main", "review", *options]
    return pexpect.spawn(sys.executable, words, env=environment, encoding="utf-8", timeout=60, dimensions=(60, 100))


PROMPT = r"\?, Q: "


def test_on_a_terminal_one_key_is_an_answer_and_it_is_on_disk_before_the_next_pair(store, labelled) -> None:
    child = spawn("--by", "bea", "-n", "4")
    child.expect(PROMPT)
    seen = child.before
    child.send("a")
    child.expect("2 of 4")
    assert len(store.spot_checks()) == 1  # before anything is said about the second pair
    child.expect(PROMPT)
    child.send("\x1b[A")  # an arrow key: its last character is an A
    child.send("aab")  # pasted
    child.send("?")
    child.expect("undo your last answer")
    child.expect(PROMPT)
    child.send("u")
    child.expect("taken back")
    child.expect("1 of 4")
    child.expect(PROMPT)
    assert store.spot_checks() == []
    child.send("r")
    child.expect("reason: ")
    child.sendline("because ü")
    child.expect(PROMPT)
    child.send("b")
    child.expect("2 of 4")
    child.expect(PROMPT)
    child.send("t")
    child.expect("3 of 4")
    child.expect(PROMPT)
    child.send("s")
    child.expect("4 of 4")
    child.expect(PROMPT)
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130

    found = answers(store)
    assert [f[2:] for f in found] == [
        (found[0][2], "because ü", "random"),
        ("tie", "", "random"),
        ("skip", "", "random"),
    ]
    comparison, side = found[0][1], found[0][2]
    assert side == ("second" if shows_first_left("bea", comparison) else "first")  # B is what stood on the right
    assert "decided" not in seen and "better" not in seen  # blind


def test_model_text_cannot_reach_the_terminal(store, labelled) -> None:
    child = spawn("-n", "1")
    child.expect(PROMPT)
    assert "<U+001B>[31m[red]<U+202E>" in child.before
    assert "\x1b[31m" not in child.before and "\u202e" not in child.before
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_on_a_pipe_a_line_is_a_key(store, labelled, type_in) -> None:
    outcome = type_in("a tie s", "--by", "bea", "-n", "3")
    assert outcome.code == 0
    assert "3 answered" in outcome.out
    assert [f[2] for f in answers(store)][1:] == ["tie", "skip"]


def test_no_pair_is_shown_twice_and_each_reviewer_sees_all(store, labelled, type_in) -> None:
    type_in("a a q", "--by", "bea")
    rest = type_in("b b b b b b", "--by", "bea")
    assert "4 pairs" in rest.out
    assert len({c for _, c, *_ in answers(store)}) == 6
    assert "no pair left" in type_in("a", "--by", "bea").out
    assert "6 pairs" in type_in("q", "--by", "cy").out


def test_an_answer_of_an_earlier_sitting_can_be_undone(store, labelled, type_in) -> None:
    type_in("a q", "--by", "bea")
    type_in("u t q", "--by", "bea")
    assert [f[2] for f in answers(store)] == ["tie"]


def test_the_judge_is_shown_after_the_answer_and_only_when_asked(store, labelled, type_in) -> None:
    assert "the judge" not in type_in("a q", "--by", "bea").out
    shown = type_in("a q", "--by", "bea", "--reveal").out
    assert shown.index("kept: A is better") < shown.index("the judge:")


def test_pairs_are_drawn_as_asked(store, labelled, type_in) -> None:
    assert "1 pairs (flips)" in type_in("q", "--sample", "flips").out  # pair 2 alone has two orders that differ
    uncertain = type_in("s s s s s s", "--by", "bea", "--sample", "uncertain")
    assert "5 pairs" in uncertain.out  # pair 3 could not be read
    assert {f[4] for f in answers(store)} == {"uncertain"}
    assert answers(store)[0][1] == labelled.comparisons[2]  # a tie is nearest to even


def test_agreement_is_of_random_pairs_and_others_stand_apart(store, labelled, precept) -> None:
    # Of the decided pairs 0, 1, 4, 5 a person follows the judge on three; pair 2 is a tie, and so says the person.
    sides = {True: "first", False: "second"}
    for number in (0, 1, 4):
        _check(store, labelled, number, sides[labelled.longer[number]], "random")
    _check(store, labelled, 5, sides[not labelled.longer[5]], "random")
    _check(store, labelled, 2, "tie", "random")
    _check(store, labelled, 3, "tie", "random")  # unreadable: left out
    _check(store, labelled, 0, "tie", "uncertain", by="cy")
    found = precept("agreement", "--json").json
    overall = found["overall"]
    assert (overall["count"], overall["left_out"]) == (5, 1)
    assert overall["raw"]["mean"] == pytest.approx(4 / 5)
    assert overall["raw"]["low"] <= 4 / 5 <= overall["raw"]["high"]
    # `kind` votes on the four pairs whose two orders agree; `short` on none.
    assert set(found["by_principle"]) == {"kind"}
    assert (found["by_principle"]["kind"]["count"], found["by_principle"]["kind"]["raw"]["mean"]) == (4, 0.75)
    assert found["others"]["uncertain"]["count"] == 1
    assert found["others"]["uncertain"]["raw"]["mean"] == 0
    assert found["reviewers"] == {"bea": 6, "cy": 1}
    shown = precept("agreement").out
    assert "not at random: uncertain" in shown and "0.80" in shown


def test_agreement_without_answers_says_what_to_do(store, labelled, precept) -> None:
    outcome = precept("agreement")
    assert outcome.code == 0
    assert "precept review" in outcome.err


def _check(store: Store, labelled, number: int, answer, how: str, by: str = "bea") -> None:
    store.add_spot_check(by, labelled.comparisons[number], answer, sampled_by=how, key=f"{by}{number}{how}")


def test_neither_with_a_rewrite_the_principle_that_decided_and_one_principle_alone(store, labelled, type_in) -> None:
    outcome = type_in("9x 1 w Better. f", "--by", "ada", "-n", "1")
    assert "decided by: " in outcome.out and "neither is acceptable" in outcome.out
    [check] = store.spot_checks()
    assert (check.answer, check.rewrite) == ("neither", "Better.") and check.principle
    outcome = type_in("a", "--by", "ada", "-n", "1", "--ask", check.principle)
    assert len(store.spot_checks()) == 1 and len(store.spot_checks(asked=check.principle)) == 1
    assert "no principle 'calm'" in type_in("a", "--by", "ada", "--ask", "calm").err
