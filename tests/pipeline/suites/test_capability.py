"""Questions with choices: what is right by hand, what is asked of an engine, and what the gate makes of it, on drawn
answers of models that are known for what they lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.capability import drawn
from constitution.errors import UserError
from pipeline import suites
from pipeline.asking import Role
from pipeline.engines.engine import Capabilities, Refused, Score, Scored
from pipeline.suites import Evidence, Item, capability

BEES = Item("What do bees make?", ("Honey", "Milk of the cow"), 0)
SEA = Item("What colour is the sea?", ("Red", "Blue"), 1)


def figures(before: Any, after: Any, items: Sequence[Item] = (BEES, SEA)) -> dict[str, suites.Figure]:
    evidence = Evidence({}, (), (), items=items, choices=(before, after))
    (found,) = suites.measure(["capability"], evidence, {"capability": evidence})
    return {figure.name: figure for figure in found.figures}


def test_the_likeliest_choice_by_itself_and_by_the_byte() -> None:
    # Of 5 and 15 bytes: -6 is likelier than -9, and -9 / 15 likelier than -6 / 5.
    found = figures([(-6.0, -9.0), (-2.0, -1.0)], [(-9.0, -6.0), None])
    right, by_length = found["right"], found["right_by_length"]
    assert right.before and right.after and by_length.before
    assert (right.before.mean, right.after.mean, right.n) == (1.0, 0.0, 1)
    assert by_length.before.mean == 0.5
    assert right.change and right.change.mean == -1.0 and found["guessing"].before.mean == 0.5  # type: ignore[union-attr]
    tied = figures([(-1.0, -1.0), (-1.0, -1.0)], [(-1.0, -1.0), (-1.0, -1.0)])["right"]
    assert tied.before and tied.before.mean == 0.5


class Engine:
    """Finds a choice as likely as it is short; cannot read "unreadable"."""

    capabilities = Capabilities()
    asked: list[Score]

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        self.asked = list(requests)
        return [
            Refused("too_long", "too long") if "unreadable" in r.completion else Scored(-float(len(r.completion)), 2, 9)
            for r in requests
        ]


def test_each_choice_is_scored_as_a_whole_answer() -> None:
    engine: Any = Engine()
    odd = Item("Which?", ("a", "unreadable"), 0)
    found, used = capability.scored(Role(engine), [BEES, odd, SEA])
    assert found == [(-5.0, -15.0), None, (-3.0, -4.0)]
    assert [(r.chat.messages[-1].content, r.completion, r.end) for r in engine.asked[:2]] == [
        ("What do bees make?", "Honey", True), ("What do bees make?", "Milk of the cow", True),
    ]  # fmt: skip
    assert (used.requests, used.prompt_tokens) == (6, 45)
    engine.capabilities = Capabilities(score=False)
    with pytest.raises(UserError, match="likelihood of whole answers"):
        capability.scored(Role(engine), [BEES])


def test_what_ships() -> None:
    items = capability.items()
    assert len(items) == 120 and len({item.question for item in items}) == 120
    places = Counter(item.answer for item in items)
    assert all(20 <= places[place] <= 40 for place in range(4))  # a model that likes a place is not right by it
    assert Counter(item.kind for item in items) == {"facts": 60, "arithmetic": 30, "reading": 30}
    longest = sum(max(map(len, item.choices)) == len(item.choices[item.answer]) for item in items)
    assert longest < 60  # nor one that likes long answers
    assert suites.only_named("capability") and list(suites.items(["style", "capability"])) == ["capability"]


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [
        {"question": "Up?", "choices": ["yes", "no"], "answer": "no"},
        {"question": "?", "choices": ["a", "b"], "answer": 1},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert [item.answer for item in suites.load(f"capability:{file}").items()] == [1, 1]
    suites.check([f"capability:{file}"], {f"capability:{file}": {"falls": 0.1}})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"), ("[]", "no object"), ('{"choices": ["a", "b"], "answer": 0}', "no question"),
        ('{"question": "a", "choices": "ab", "answer": 0}', "no list"),
        ('{"question": "a", "choices": ["a"], "answer": 0}', "1 choices"),
        ('{"question": "a", "choices": ["a", "a"], "answer": 0}', "no two alike"),
        ('{"question": "a", "choices": ["a", "b"], "answer": 2}', "answer is none"),
        ('{"question": "a", "choices": ["a", "b"], "answer": true}', "answer is none"),
        ('{"question": "a", "choices": ["a", "b"], "answer": "c"}', "answer is none"),
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_told_by_its_number(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"question": "q", "choices": ["a", "b"], "answer": 0}}\n{line}\n')
    with pytest.raises(UserError, match=rf"line 2: .*{said}"):
        suites.load(f"capability:{tmp_path / 'x.jsonl'}")
    with pytest.raises(UserError, match="cannot be read"):
        suites.load(f"capability:{tmp_path / 'none.jsonl'}")


# --- the gate --------------------------------------------------------------------------------------------------------


def said(before: int, after: int, n: int = 200, **limits: float) -> list[suites.Condition]:
    """Of a model that was right on so many of n questions, and of one after that is right on so many of the same."""
    right, wrong = (-1.0, -2.0, -2.0, -2.0), (-2.0, -1.0, -2.0, -2.0)
    sides = [[right] * count + [wrong] * (n - count) for count in (before, after)]
    found = figures(*sides, [Item(str(place), ("a", "b", "c", "d"), 0) for place in range(n)])
    return capability.conditions(found, {**capability.LIMITS, **limits})


@pytest.mark.parametrize(
    ("before", "after", "held", "words"),
    [
        (120, 120, True, "did not change on 200 questions"),
        (120, 130, True, "rose by 5.0 points"),
        (120, 114, True, "fell by 3.0 points"),
        (120, 110, True, "within the 5 allowed"),
        (120, 109, False, "more than the 5 allowed"),
        (55, 55, False, "not above guessing"),
    ],
)
def test_what_it_asks(before: int, after: int, held: bool, words: str) -> None:
    [condition] = said(before, after)
    assert condition.held == held and words in condition.text, condition.text


def test_what_is_not_known_fails_and_what_is_not_ruled_out_is_said() -> None:
    [few] = said(40, 40, 50)
    assert not few.held and "50 questions are too few, 100 are needed" in few.text
    assert said(40, 0, 50, falls=1) == []
    [near] = said(120, 111)
    assert near.held and "a loss of" in near.text and "not ruled out" in near.text
    [same] = said(120, 120)
    assert "ruled out" not in same.text


def test_how_often_it_is_wrong_on_drawn_answers() -> None:
    """At 120 questions, of which a tenth change by chance."""

    def refused(loss: float, n: int = 120) -> float:
        return float(np.mean([not drawn(np.random.default_rng([n, seed]), n, 0.1, loss).held for seed in range(80)]))

    assert refused(0.0) <= 0.10
    assert refused(0.15) >= 0.9
    assert 0.2 <= refused(0.05) <= 0.8  # at the limit itself it is a toss, which is said of the figure
