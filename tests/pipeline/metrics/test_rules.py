"""The label rule is chosen by what the judge says of pairs with known answers: simulated judges, the quick version of
`benchmarks.rule_choice`, which prints the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.rule_choice import JUDGES, measure, say
from constitution.records import LabelRule
from pipeline.metrics import rules
from pipeline.metrics.rules import Known, choose

SETTINGS = LabelRule()


@pytest.mark.parametrize("name", ["position-biased, good", "good at some, wrong elsewhere", "timid", "at chance"])
def test_the_chosen_rule_is_within_a_hundredth_of_the_best(name: str) -> None:
    row = measure(name, JUDGES[name], pairs=200, draws=3, settings=SETTINGS)
    assert row.loss < 0.01 and row.chosen - row.tied[0] < 0.015
    if name != "at chance":
        assert row.chosen - row.settings > 0.1  # and it was worth choosing


def test_a_biased_judge_is_averaged_and_the_reason_says_so() -> None:
    found = choose(say(JUDGES["position-biased, weak"], 300, np.random.default_rng(1)).known(), SETTINGS)
    assert found.told and found.pairs == 300 and not found.rule.consistent
    assert found.why.startswith("the mean of both orders") and "over 300 pairs with known answers" in found.why
    assert found.auroc[rules.name_of(found.rule)] > found.auroc[rules.name_of(SETTINGS)]
    assert (found.rule.min_mass, found.rule.min_readable) == (SETTINGS.min_mass, SETTINGS.min_readable)


def test_too_few_pairs_and_pairs_of_one_principle_each_choose_nothing() -> None:
    said = say(JUDGES["position-biased, good"], 200, np.random.default_rng(2)).known()
    few = choose([row for row in said if int(row.pair) < rules.ENOUGH - 1], SETTINGS)
    assert (few.rule, few.told) == (SETTINGS, False) and "39 pairs with known answers are too few" in few.why
    alone = choose([row for row in said if int(row.pair) % 16 == int(row.principle)], SETTINGS)
    assert (alone.rule, alone.told) == (SETTINGS, False) and "under one principle" in alone.why
    nothing = choose([], SETTINGS)
    assert nothing.rule == SETTINGS and nothing.auroc == {}


def test_rules_that_cannot_be_told_apart_leave_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choose(say(JUDGES["at chance"], 60, np.random.default_rng(4)).known(), SETTINGS)
    if not found.told:
        assert found.rule == SETTINGS and "too few to tell" in found.why
    monkeypatch.setattr(rules, "SURE", 1e9)
    found = choose(say(JUDGES["timid"], 60, np.random.default_rng(4)).known(), SETTINGS)
    assert found.rule == SETTINGS and not found.told and "95% interval" in found.why


def test_auroc_and_its_error_by_hand() -> None:
    """Margins 3, 1, -2 for the better answer: of the nine (i, j) those with m_i > -m_j are 6."""
    assert rules.above(np.array([3.0, 1.0, -2.0])).mean() == pytest.approx((3 + 2 + 1) / 9)
    assert rules.above(np.zeros(4)).mean() == 0.5


def test_an_unreadable_order_and_an_exact_half_say_nothing() -> None:
    rows = [
        Known(str(n), p, x, x, 1.0, 1.0, n % 2 == 0)
        for n in range(80)
        for p, x in (("a", 0.9 if n % 2 == 0 else 0.1), ("b", 0.5))
    ]
    silent = [replace(row, mass1=0.1) for row in rows]
    assert choose(rows, SETTINGS).tried[0].auroc == 1.0
    assert {one.auroc for one in choose(silent, SETTINGS).tried} == {0.5}


def test_a_tie_margin_that_would_tie_what_is_told_is_lowered() -> None:
    found = choose(say(JUDGES["timid"], 200, np.random.default_rng(5)).known(), SETTINGS)
    assert found.rule.tie_margin < SETTINGS.tie_margin and "would tie what it tells apart" in found.why
    bold = choose([Known(str(n), p, x, x, 1.0, 1.0, n % 2 == 0) for n in range(80) for p in "ab"
                   for x in (0.7 if n % 2 == 0 else 0.3,)], SETTINGS)  # fmt: skip
    assert bold.told and bold.rule.min_margin < 0.5 and bold.rule.tie_margin == SETTINGS.tie_margin
