"""The sandbox's known pairs: what the file holds is what the grammar writes, and the truth agrees, which wrote none."""

from __future__ import annotations

from collections import Counter

from constitution import loading
from pipeline.sources import known_pairs
from sandbox.oracle import Oracle
from sandbox.pairs import EACH, FILE, written


def test_the_file_is_what_is_written() -> None:
    found = [(p.messages[0].content, p.better, p.worse, p.principle) for p in known_pairs.read(FILE)]
    assert found == [tuple(row.values()) for row in written()]


def test_each_principle_has_its_dozen_and_the_truth_finds_the_same_answer_better() -> None:
    constitution, oracle, pairs = loading.load("principles.yaml"), Oracle(), known_pairs.read(FILE)
    assert Counter(p.principle for p in pairs) == {p.id: EACH for p in constitution}
    for pair in pairs:
        assert oracle.prefers_by(constitution[pair.principle], pair.messages, pair.better, pair.worse) == 1, pair
