"""The orders in which reviewers are shown pairs."""

from __future__ import annotations

import numpy as np

from constitution.records import Label, make_id
from pipeline.review import most_flips, nearest_to_even, shuffled

PAIRS = [make_id("pair", n=n) for n in range(400)]


def test_each_reviewer_has_an_order_of_their_own_that_stays() -> None:
    ada, bea = shuffled(PAIRS, "ada", 0), shuffled(PAIRS, "bea", 0)
    assert sorted(ada) == sorted(PAIRS)
    assert ada == shuffled(PAIRS[::-1], "ada", 0)  # the pair decides its place, not the order it came in
    assert ada != shuffled(PAIRS, "ada", 1)
    both = np.corrcoef([ada.index(p) for p in PAIRS], [bea.index(p) for p in PAIRS])[0, 1]
    assert abs(both) < 0.2  # four standard deviations of chance
    assert shuffled(PAIRS[:50], "ada", 0) == [p for p in ada if p in PAIRS[:50]]  # a new pair moves no other
    assert shuffled([], "ada", 0) == []


def test_any_part_of_the_pairs_is_as_likely_to_come_first() -> None:
    firsts = [PAIRS.index(shuffled(PAIRS, f"reviewer {n}", 0)[0]) for n in range(400)]
    assert 160 < sum(first < 200 for first in firsts) < 240
    assert len(set(firsts)) > 200  # of 400 draws with replacement from 400, 253 differ on average


def test_nearest_to_even_and_most_flips_keep_the_given_order_of_equals() -> None:
    ids = PAIRS[:5]
    said = [("decided", 990), ("decided", 510), ("unreadable", 500), ("tied", 500), ("decided", 490)]
    labels = [Label(id, state, p * 10**6) for id, (state, p) in zip(ids, said, strict=True)]  # type: ignore[arg-type]
    assert nearest_to_even(labels) == [ids[3], ids[1], ids[4], ids[0]]
    assert most_flips(ids, [0, 1, 2, 0, 1]) == [ids[2], ids[1], ids[4]]
