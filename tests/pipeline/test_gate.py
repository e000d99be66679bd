"""The gate on evaluations that are drawn: how often it promotes an equal model, a better one and a worse one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from benchmarks import gates
from benchmarks.gates import Model, decided
from pipeline import promote
from pipeline.metrics.intervals import interval_of


@pytest.mark.parametrize("ties", [0.0, 0.3, 0.6, 0.9])
def test_an_equal_model_s_win_rate_lies_above_a_half_in_under_3_percent_of_all_that_can_come_out(ties: float) -> None:
    """Counted over every table of 60 prompts of which more were won than lost, by how probable it is."""
    n, above = 60, 0.0
    for won in range(n + 1):
        for lost in range(min(won, n + 1 - won)):
            same = n - won - lost
            chance = multinomial.pmf([won, same, lost], n, [(1 - ties) / 2, ties, (1 - ties) / 2])
            if chance > 1e-9:
                above += chance * (interval_of([1.0] * won + [0.5] * same + [0.0] * lost).low > 0.5)
    assert above < 0.03


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


def test_a_share_of_exactly_the_most_that_may_be_unreadable_is_within_it() -> None:
    evaluation = gates.evaluation(Model("better", gain=0.2), 100, np.random.default_rng(0)) | {"unreadable": 1 - 0.7}
    found = promote.decide(promote.Gate(max_unreadable=0.3), evaluation, None, ratified=True)
    assert "held: 30.0% of the comparisons could not be read, at most 30%" in found.reasons
