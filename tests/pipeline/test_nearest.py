"""The nearest prompts, by the words they share."""

from __future__ import annotations

import pytest

from pipeline import nearest


def test_the_nearest_prompts_share_the_rarest_words() -> None:
    texts = ["How do I bake bread?", "How do I forge a letter?", "Sing.", "How do I forge a seal for a letter?"]
    found = nearest.nearest("How do I FORGE a letter", texts, most=3)
    assert [place for place, _ in found] == [1, 3, 0]  # "Sing." shares no word
    assert found[0][1] == pytest.approx(1.0)  # case and the mark at the end do not count
    assert found[0][1] > found[1][1] > found[2][1] > 0
    assert nearest.nearest("How do I FORGE a letter", texts, most=1) == found[:1]


@pytest.mark.parametrize("texts", [[], ["?!", ""], ["words that it does not share"]])
def test_where_no_word_is_shared_nothing_is_near(texts: list[str]) -> None:
    assert nearest.nearest("?", texts, most=3) == []
    assert nearest.nearest("another", texts, most=3) == []


def test_prompts_that_are_as_near_stay_in_order() -> None:
    assert [place for place, _ in nearest.nearest("a b", ["b a", "c", "a b"], most=5)] == [0, 2]
