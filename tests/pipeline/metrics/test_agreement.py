"""Agreement with people, against a published table."""

from __future__ import annotations

import numpy as np
import pytest

from constitution.records import PROBABILITY, Label, SpotAnswer, SpotCheck
from pipeline.metrics import agreement


def test_agreement_on_a_published_table() -> None:
    """Gwet 2008, table 1 style: two raters, 125 items, 118 agree on the common category, so kappa collapses and AC1
    does not. By hand: a = .944; pi = (.972, .028, 0); e(kappa) = .9456; e(AC1) over 3 categories = .0272."""
    rows = np.array([118, 5, 0, 2, 0, 0, 0, 0, 0])
    assert agreement.raw_agreement(rows) == pytest.approx(0.944)
    assert agreement.cohen_kappa(rows) == pytest.approx(-0.0234, abs=5e-4)
    expected = (0.972 * 0.028 + 0.028 * 0.972) / 2
    assert agreement.gwet_ac1(rows) == pytest.approx((0.944 - expected) / (1 - expected))


def test_agreement_leaves_out_skips_and_unreadable() -> None:
    yes, no = Label(b"1" * 16, "decided", 900_000_000), Label(b"2" * 16, "unreadable", PROBABILITY // 2)
    found = agreement.agreement([("first", yes), ("second", yes), ("skip", yes), ("first", no)])
    assert (found["count"], found["left_out"], found["raw"]["mean"]) == (2, 2, 0.5)
    assert agreement.agreement([])["raw"]["mean"] is None


def test_variances_are_those_that_were_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two abstractors on 100 pregnancies (Gwet, Handbook of Inter-Rater Reliability): kappa .796, s.e. .0589; AC1 .849,
    s.e. .0432, as 1/n and not 1/(n - 1) of the squares."""
    monkeypatch.setattr(agreement, "_TWO_MORE", 0)
    counts = np.array([13, 0, 0, 0, 20, 7, 0, 4, 56])
    for way, mean, error in ((agreement.kappa, 0.7964094, 0.05891072), (agreement.ac1, 0.8493305, 0.04321747)):
        found = way(counts)
        assert found.mean == pytest.approx(mean, abs=1e-7)
        t = 1.984723  # of 97 degrees, for the two ratings more that are not there
        assert (found.high - found.low) / 2 / t == pytest.approx(error * (100 / 99) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("n", [5, 10, 50])
@pytest.mark.parametrize("agree", [0.6, 0.9, 0.98])
def test_intervals_hold_what_is_true_on_few_ratings(n: int, agree: float) -> None:
    """Where one category is nearly all. A percentile bootstrap of ten missed it in 21 to 58% of samples."""
    rng, share = np.random.default_rng(n), np.array([0.8, 0.15, 0.05])
    apart = np.outer(share, share) * (1 - np.eye(3))
    table = np.diag(share) * agree + apart / apart.sum() * (1 - agree)
    for name in ("kappa", "ac1"):
        way = getattr(agreement, name)
        true = float({"kappa": agreement.cohen_kappa, "ac1": agreement.gwet_ac1}[name](table.ravel()))
        found = [way(counts) for counts in rng.multinomial(n, table.ravel(), 400)]
        found = [i for i in found if i.mean == i.mean]  # kappa of one category alone is not known
        assert np.mean([i.low <= true <= i.high for i in found]) > 0.9
        assert all(i.high - i.low > 0.01 for i in found)


def test_kappa_is_that_of_scikit_learn_for_each_of_many_tables() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    ratings = rng.integers(0, 3, (20, 30, 2)) * rng.integers(0, 2, (20, 30, 2))
    counts = np.array([np.bincount(some[:, 0] * 3 + some[:, 1], minlength=9) for some in ratings])
    expected = [cohen_kappa_score(some[:, 0], some[:, 1], labels=range(3)) for some in ratings]
    assert agreement.cohen_kappa(counts) == pytest.approx(np.array(expected))
    assert np.isnan(agreement.cohen_kappa(np.array([7, 0, 0, 0, 0, 0, 0, 0, 0])))  # one category was ever used


def test_several_answers_about_one_pair_are_one_row_and_the_interval_keeps_its_word() -> None:
    """Three people, right nine times in ten, on the same twenty pairs: taken as sixty rows it covered .80 of 1,000."""
    chance = np.random.default_rng(0)
    agree = 0.7 * 0.9 + 0.3 * 0.1
    true = (agree - 0.25) / (1 - 0.25)  # two of three categories, used evenly
    hits = {"one": 0, "all": 0}
    for _ in range(300):
        checks, labels = [], {}
        for pair in range(20):
            id, truth = pair.to_bytes(16, "big"), int(chance.integers(2))
            judge = truth if chance.random() < 0.7 else 1 - truth
            labels[id] = Label(id, "decided", PROBABILITY if judge == 0 else 0)
            for person in range(3):
                said = truth if chance.random() < 0.9 else 1 - truth
                answer: SpotAnswer = "first" if said == 0 else "second"
                checks.append(SpotCheck(f"{pair:03}{person}", "", f"p{person}", id, answer, "", "random"))
        for name, some in (("one", agreement.one_a_pair(checks)), ("all", checks)):
            found = agreement.agreement([(c.answer, labels[c.comparison]) for c in some])["ac1"]
            hits[name] += found["low"] <= true <= found["high"]
    assert hits["one"] / 300 > 0.92 and hits["all"] / 300 < 0.88


def test_a_skip_gives_way_to_an_answer() -> None:
    skip = SpotCheck("1", "", "ada", b"p" * 16, "skip", "", "random")
    tie = SpotCheck("2", "", "bea", b"p" * 16, "tie", "", "random")
    first = SpotCheck("3", "", "cy", b"p" * 16, "first", "", "random")
    assert agreement.one_a_pair([first, skip, tie]) == [tie] and agreement.one_a_pair([skip]) == [skip]
