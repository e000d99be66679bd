"""Data sets made of other data sets: people's pairs blended in, answers without their pairs, prompts alone."""

from __future__ import annotations

from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message, Prompt
from pipeline import assemble


def pair(number: int, **more: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": f"prompt {number}"}
    return {"prompt": [turn], "chosen": assemble.said("good"), "rejected": assemble.said("bad"), **more}


AI = [pair(number, p=0.8, comparison=f"{number:02}") for number in range(30)]
HUMAN = [pair(1_000 + number) for number in range(50)]


# --- blend ---


@pytest.mark.parametrize(("share", "people"), [(0.0, 0), (0.1, 3), (0.25, 10), (0.5, 30), (0.6, 45)])
def test_every_ai_pair_stays_and_people_have_their_share(share: float, people: int) -> None:
    blended = assemble.blend(AI, HUMAN, share, seed=0)
    assert blended.missing == 0
    assert blended.rows[:30] == AI
    drawn = blended.rows[30:]
    assert len(drawn) == people
    assert len(drawn) / len(blended.rows) == pytest.approx(share, abs=0.02)
    assert all(row["p"] == 1.0 for row in drawn)
    prompts = [row["prompt"] for row in drawn]
    assert prompts == [row["prompt"] for row in HUMAN if row["prompt"] in prompts]  # each once, in the file's order


def test_what_people_lack_is_told() -> None:
    blended = assemble.blend(AI, HUMAN[:7], 0.5, seed=0)
    assert len(blended.rows) == 37
    assert blended.missing == 23


def test_the_draw_depends_on_the_seed_and_rows_that_come_later_displace_others_only_by_themselves() -> None:
    drawn = [tuple(map(str, assemble.blend(AI, HUMAN, 0.25, seed).rows[30:])) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    later = assemble.blend(AI, [*HUMAN, *(pair(2_000 + n) for n in range(5))], 0.25, 0).rows[30:]
    newcomers = [r for r in later if str(r) not in drawn[0]]
    assert 0 < len(newcomers) == sum("prompt 2" in r["prompt"][0]["content"] for r in later)
    assert assemble.blend(AI, HUMAN[::-1], 0.25, 0).rows[30:] == assemble.blend(AI, HUMAN, 0.25, 0).rows[:29:-1]


def test_a_persons_own_p_stands_and_equal_rows_are_drawn_like_others() -> None:
    same = [pair(7, p=0.75)] * 4
    assert assemble.blend(AI[:6], same, 0.25, 0).rows[6:] == same[:2]


@pytest.mark.parametrize(
    ("human", "share", "message"),
    [
        ([], 0.5, "there are none"),
        (HUMAN, 1.0, "under 1"),
        (HUMAN, -0.1, "at least 0"),
        (HUMAN, float("nan"), "under 1"),
    ],
)
def test_a_share_that_cannot_be_had_is_refused(human: list[Any], share: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assemble.blend(AI, human, share, 0)


def test_nobody_is_needed_for_no_share() -> None:
    assert assemble.blend(AI, [], 0.0, 0) == assemble.Blend(AI, 0)


# --- unpaired ---


def row(prompt: str, chosen: str, rejected: str, p: float) -> dict[str, Any]:
    turn = {"role": "user", "content": prompt}
    return {"prompt": [turn], "chosen": assemble.said(chosen), "rejected": assemble.said(rejected), "p": p}


def labels(rows: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    return [(r["prompt"][0]["content"], r["completion"][0]["content"], r["label"]) for r in rows]


def test_each_answer_comes_once_with_the_label_of_most_of_its_pairs() -> None:
    rows = [
        row("x", "a", "b", 0.9),
        row("x", "a", "c", 0.8),
        row("x", "b", "c", 0.8),  # b: bad once, good once
        row("x", "d", "a", 0.95),  # a: good twice, bad once
        row("y", "b", "a", 1.0),  # another prompt
        row("x", "c", "e", 0.79),  # not sure enough
    ]
    assert labels(assemble.unpaired(rows, 0.8)) == [
        ("x", "a", True),
        ("x", "c", False),
        ("x", "d", True),
        ("y", "b", True),
        ("y", "a", False),
    ]
    assert labels(assemble.unpaired(rows, 1.0)) == [("y", "b", True), ("y", "a", False)]
    assert assemble.unpaired(rows[:1], 0.95) == []
    assert set(assemble.unpaired(rows, 0.5)[0]) == {"prompt", "completion", "label"}


@pytest.mark.parametrize("min_p", [0.4, 1.1, float("nan")])
def test_a_threshold_that_is_none_is_refused(min_p: float) -> None:
    with pytest.raises(UserError, match="min_p is"):
        assemble.unpaired([], min_p)


# --- prompts ---


def test_prompts_alone_are_those_of_the_training_split() -> None:
    turns = (Message("user", "How?"), Message("assistant", "So."), Message("user", "Why?"))
    assert assemble.prompts([Prompt(turns, "train")]) == [{"prompt": assemble.messages(turns)}]
    for split in ("dev", "heldout"):
        with pytest.raises(ValueError, match=f"a {split} prompt may not reach a training file"):
            assemble.prompts([Prompt(turns, "train"), Prompt(turns, split)])
