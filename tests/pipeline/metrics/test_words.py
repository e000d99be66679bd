"""Figures in words: a rounded figure never says more than the figure."""

from __future__ import annotations

from pipeline.metrics import words


def test_none_and_all_are_said_of_none_and_all() -> None:
    assert [words.percent(x, 0) for x in (0, 0.004, 0.5, 0.996, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]
    assert [words.percent(x) for x in (0.0004, 0.9996, 0.123, None)] == ["<0.1%", ">99.9%", "12.3%", "-"]


def test_a_figure_is_not_rounded_onto_the_limit_that_it_misses() -> None:
    assert [words.number(x) for x in (0.4996, 0.5, 0.50004, 0.4, None)] == ["0.4996", "0.500", "0.50004", "0.400", "-"]
    assert words.number(0.9999, 2, 1.0) == "0.9999"


def test_changes_have_their_sign_and_are_never_nothing_unless_they_are() -> None:
    assert [words.signed(x) for x in (0.032, -0.0001, 0.0, None)] == ["+3.2", "-<0.1", "0.0", "-"]
    assert words.moved(0.032) == "rose by 3.2 points" and words.moved(0) == "did not change"


def test_a_win_rate_is_told_with_what_it_is_made_of() -> None:
    win = {"mean": 0.835, "low": 0.8, "high": 0.87, "better": 0.71, "worse": 0.04, "no_difference": 0.25}
    assert words.win_rate(win) == (
        "better on 71%, worse on 4%, no difference on 25%; win rate 0.835 with ties as half (95% interval 0.800 to "
        "0.870)"
    )
    of_before = {"mean": 0.835, "low": 0.8, "high": 0.87}
    assert words.win_rate(of_before) == "win rate 0.835 with ties as half (95% interval 0.800 to 0.870)"
    assert words.win_rate({"mean": None, "low": None, "high": None}) == "no comparison could be read"
