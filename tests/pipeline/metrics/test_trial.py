"""What a trial says of judges whose worth is known: simulated, and counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trials import JUDGES, tried
from pipeline.metrics import trust
from pipeline.metrics.trial import Tried, figures, group
from pipeline.metrics.trust import AT_CHANCE, TOO_FEW, TRUSTED, Score

BY_NAME = {judge.name: judge for judge in JUDGES}
CHANCE = ("chance", "chance, by position", "chance, 3 pairs a prompt")


def of(right: int, wrong: int, neither: int = 0) -> Score:
    n = right + wrong + neither
    return Score(right, wrong, n, (right + neither / 2) / n if n else 0.5)


def exactly(n: int, accuracy: float, word: str) -> float:
    """The probability of a verdict for a judge of an accuracy on n prompts, summed over all that may be seen."""
    from scipy import stats

    return sum(float(stats.binom.pmf(k, n, accuracy)) for k in range(n + 1) if trust.word(of(k, n - k)) == word)


@pytest.mark.parametrize("n", [1, 3, 4, 6, 10, 17, 35, 60, 100, 333])
def test_a_judge_at_chance_is_trusted_in_under_3_of_100_trials_and_a_good_one_rarely_left_out(n: int) -> None:
    assert exactly(n, 0.5, TRUSTED) < 0.03
    assert exactly(n, 0.8, AT_CHANCE) <= 0.026
    assert exactly(n, 0.25, TRUSTED) < 0.001


@pytest.mark.parametrize("accuracy", [0.65, 0.7, 0.8, 0.9, 1.0])
def test_the_number_that_is_asked_for_is_enough_and_so_is_any_more(accuracy: float) -> None:
    n = trust.needed(accuracy)
    assert all(exactly(m, accuracy, TRUSTED) > 0.95 for m in (n, n + 1, n + 2, n + 7))
    assert n == 6 if accuracy == 1 else exactly(n - 1, accuracy, TRUSTED) < 0.95


def test_a_judge_at_chance_is_told_of_where_there_are_many_pairs() -> None:
    assert exactly(200, 0.5, AT_CHANCE) > 0.97
    assert exactly(35, 0.25, AT_CHANCE) > 0.99


@pytest.mark.parametrize("name", CHANCE)
def test_several_principles_at_once_do_not_make_chance_believed(name: str) -> None:
    """In all or in any principle: at most 2.5% + 0.5%, and what 400 trials may show above that."""
    found = tried(BY_NAME[name], pairs=12, principles=8, trials=400, seed=1)
    assert found["false"] <= 0.03 + 2 * (0.03 * 0.97 / 400) ** 0.5


def test_a_judge_that_is_good_at_one_principle_is_believed_in_that_one() -> None:
    found = tried(BY_NAME["good at one principle"], pairs=35, principles=4, trials=100, seed=2)
    assert found["believed"] > 0.97 and found["lost"] < 0.05
    assert found["false"] < 0.08  # the other three, at 2.5% over them where the judge is trusted in all


def test_a_position_bias_alone_takes_no_trust_away() -> None:
    one, other = (tried(BY_NAME[n], 20, 1, 60, seed=3) for n in ("accuracy .8", "accuracy .8, by position"))
    assert one[TRUSTED] == other[TRUSTED] and one["flips"] == 0 and other["flips"] > 0.9


def test_more_is_what_is_lacking_for_a_good_judge_or_for_one_as_good_as_it_was_seen_to_be() -> None:
    assert trust.word(of(3, 1)) == TOO_FEW and trust.more(of(3, 1)) == trust.needed(0.8) - 4
    assert trust.word(of(24, 16)) == TOO_FEW and trust.more(of(24, 16)) == trust.needed(0.6) - 40
    assert trust.word(of(0, 0)) == TOO_FEW and trust.more(of(0, 0)) == trust.needed(0.8)
    with pytest.raises(ValueError, match="is better than chance"):
        trust.needed(0.5)


def test_no_interval_is_of_width_zero_and_the_word_goes_with_it() -> None:
    for found in (of(0, 0), of(1, 0), of(6, 0), of(0, 9), of(0, 0, 30), of(5, 5)):
        low, high = found.interval
        assert 0 <= low < high <= 1
    for right in range(41):
        assert (of(right, 40 - right).interval[0] > 0.5) == (trust.word(of(right, 40 - right)) == TRUSTED)


def test_always_the_first_is_tied_everywhere_and_no_better_than_chance() -> None:
    rows = [Tried(str(n), str(n), 0.9, 0.1) for n in range(12)]
    found = figures(rows)
    assert found.accuracy.score.mean == 0.5 and found.tied == 12 and found.first.value == 1.0
    assert found.consistent.value == 0.0 and trust.word(found.accuracy.score) == AT_CHANCE


def test_figures_counted_by_hand() -> None:
    rows = [
        Tried("1", "p", 0.9, 0.8, "a", mass=0.9, lengths=(9, 3), marks=(1, 0), own="better"),  # right, longer
        Tried("2", "p", 0.4, 0.1, "a", mass=0.9, lengths=(9, 3), tags=("sycophancy",)),  # wrong, longer
        Tried("3", "q", 0.9, 0.3, "b", mass=0.8, lengths=(2, 3), marks=(0, 2), own="worse"),  # right, flips
        Tried("4", "r", 0.5, 0.5, "b", mass=0.8),  # abstains
        Tried("5", "s", 0.9, 0.9, "b", mass=0.1),  # unreadable
        Tried("6", "t", None, None, "b"),  # could not be asked
        Tried("7", "u", 0.7, None, "b", lengths=(3, 3)),  # one order only
    ]
    found = figures(rows, min_mass=0.5)
    assert (found.asked, found.unreadable, found.abstained) == (7, 2, 1)
    assert found.accuracy.pairs == 4 and found.accuracy.score == Score(2, 0, 3, pytest.approx((0.5 + 1 + 1) / 3))
    assert (found.first.count, found.first.of) == (5, 7)  # A, A; B, A; A, A; A
    assert (found.consistent.count, found.consistent.of) == (2, 3)
    assert found.longer.pairs == 2 and found.longer.score.mean == 0.5
    assert found.not_longer.pairs == 2 and found.not_longer.score.mean == 1.0
    assert found.formatted.pairs == found.plainer.pairs == found.own_better.pairs == found.own_worse.pairs == 1
    assert found.wrong_user.pairs == 1 and found.wrong_user.score.mean == 0.0
    assert found.mass == 0.9 and sum(b.pairs for b in found.reliability) == 4
    told = found.as_dict()
    assert told["accuracy"] == pytest.approx(5 / 6) and "wrong_user" in told


def test_calibration_of_a_calibrated_judge_and_of_a_sure_one() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 4000)
    right = rng.random(4000) < sure
    honest = [Tried(str(i), str(i), *[p if r else 1 - p] * 2) for i, (p, r) in enumerate(zip(sure, right, strict=True))]
    assert (figures(honest).ece or 0) < 0.03
    boastful = [Tried(r.pair, r.prompt, *[0.99 if r.right == 1 else 0.01] * 2) for r in honest]
    assert (figures(boastful).ece or 0) > 0.2


def test_pairs_on_one_prompt_count_once() -> None:
    rows = [Tried(str(n), "one prompt", 0.9, 0.9) for n in range(50)]
    assert group(rows).score == Score(1, 0, 1, 1.0) and trust.word(group(rows).score) == TOO_FEW


def test_a_preference_for_a_place_is_told_from_reading_by_one_order_each() -> None:
    """Simulated: a judge that names the first on 85% of what it is shown, and one that is right on 80%."""
    draw = np.random.default_rng(11)

    def told(first: float, last: float) -> bool:
        one, other = int(draw.binomial(30, first)), int(draw.binomial(20, last))
        return trust.by_place(of(one, 30 - one), of(other, 20 - other)) <= trust.LEVEL

    assert sum(told(0.85, 0.15) for _ in range(400)) <= 16
    assert sum(told(0.8, 0.8) for _ in range(400)) >= 360
