"""The gate on evaluations that are drawn: how often it promotes an equal model, a better one and a worse one."""

from __future__ import annotations

import pytest

from benchmarks.gates import Model, decided


@pytest.mark.parametrize(("n", "gain"), [(100, 0.15), (250, 0.10)])
def test_an_equal_model_is_promoted_under_3_percent_and_a_better_one_mostly(n: int, gain: float) -> None:
    promoted, _ = decided(Model("equal"), n, 400)
    assert promoted < 0.03
    promoted, _ = decided(Model("better", gain=gain), n, 100)
    assert promoted > 0.75
    promoted, failed = decided(Model("worse by 10 points", gain=-0.10), n, 100)
    assert promoted == 0 and failed["win rate"] > 0.99


def test_a_model_that_wins_by_length_alone_or_refuses_more_is_refused_for_that() -> None:
    promoted, failed = decided(Model("by length", longer=0.2, by_length=2.0), 250, 200)
    assert promoted < 0.04 and failed["length-controlled"] > 0.95
    promoted, failed = decided(Model("refuses", gain=0.2, refuses=0.10), 250, 100)
    assert promoted < 0.1 and failed["refusals"] > 0.9 and failed["win rate"] < 0.05
