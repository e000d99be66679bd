"""The outlook of an amendment: what it calls sure holds however the missing verdicts turn out, and what it calls open
does turn on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitution.records import PROBABILITY, Label, LabelRule, Verdict
from storage.outlook import Outlook, Prospects
from storage.store import Store

ONE, HALF = PROBABILITY, PROBABILITY // 2


def outcome(label: Label) -> str:
    if label.state != "decided":
        return label.state
    return {True: "first", False: "second", None: "tied"}[label.preferred_first]


# --- properties ----------------------------------------------------------------------------------------------------

probabilities = st.sampled_from([0, 1, HALF - 1, HALF, HALF + 1, ONE - 1, ONE]) | st.integers(0, ONE)
masses = st.sampled_from([0, HALF, ONE])
evidence = st.tuples(probabilities, probabilities, masses, masses)
sure = st.sampled_from([(ONE,) * 4, (0, 0, ONE, ONE), (HALF, HALF, ONE, ONE)])
verdicts = st.none() | sure | evidence
fractions = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
rules = st.builds(LabelRule, fractions, st.booleans(), fractions, fractions, fractions)
weights = st.sampled_from([0, 1, 250, 1_000, 1_000, 2_000, 999_999_999])
QUESTIONS = 4
weightings = st.dictionaries(st.integers(0, QUESTIONS - 1), weights, min_size=1)
FOR_FIRST, FOR_SECOND, EVEN = (
    [numbers] * QUESTIONS for numbers in [(ONE,) * 4, (0, 0, ONE, ONE), (HALF, HALF, ONE, ONE)]
)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def judged(request, tmp_path_factory, world) -> Iterator[tuple]:
    """One store for all examples: each example has comparisons of its own."""
    if request.param == "sqlite":
        url = tmp_path_factory.mktemp("outlook") / "outlook.db"
    else:
        url = request.getfixturevalue("postgres").new_schema()
    with Store.open(url) as store:
        comparisons, questions = world.fill(store, 1_000, QUESTIONS)
        yield store, iter(comparisons), questions


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(verdicts, min_size=QUESTIONS, max_size=QUESTIONS),
    weightings,
    weightings,
    rules,
    st.lists(st.lists(verdicts, min_size=QUESTIONS, max_size=QUESTIONS), min_size=2, max_size=2),
)
def test_sure_is_sure_and_open_is_open(judged, row, before, after, rule, drawn):
    store, unused, questions = judged
    before, after = ({questions[i]: w for i, w in weighting.items()} for weighting in (before, after))
    extremes = [FOR_FIRST, FOR_SECOND, [None] * QUESTIONS]  # a verdict that is missing counts as unreadable
    fillings = [*extremes, EVEN, *drawn]
    asked, *filled = (next(unused) for _ in range(1 + len(fillings)))

    def stored(comparison, numbers):
        return [Verdict(q, comparison, *n) for q, n in zip(questions, numbers, strict=True) if n]

    rows = [row, *([old or new for old, new in zip(row, filling, strict=True)] for filling in fillings)]
    pairs = zip([asked, *filled], rows, strict=True)
    store.add_verdicts([verdict for comparison, numbers in pairs for verdict in stored(comparison, numbers)])
    [was] = store.labels([asked], before, rule)
    could = store.labels(filled, after, rule)
    outcomes = [outcome(label) for label in could]

    prospects = store.outlook([asked], before, after, rule)
    assert prospects.same + len(prospects.flips) + len(prospects.open) == 1
    for found in [*prospects.flips, *prospects.open]:
        assert (found.comparison, found.before, found.p_before) == (asked, outcome(was), was.p)
        assert found.missing == sum(w for q, w in after.items() if row[questions.index(q)] is None)
        assert found.p_after == could[fillings.index(EVEN)].p
    if prospects.open:
        assert prospects.open[0].after is None
        assert len(set(outcomes[: len(extremes)])) > 1
    else:
        then = prospects.flips[0].after if prospects.flips else outcome(was)
        assert set(outcomes) == {then}
        assert bool(prospects.flips) == (then != outcome(was))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(sure | evidence, min_size=QUESTIONS, max_size=QUESTIONS), weightings, weightings, rules)
def test_a_new_weighting_leaves_nothing_open(judged, row, before, after, rule):
    store, unused, questions = judged
    before, after = ({questions[i]: w for i, w in weighting.items()} for weighting in (before, after))
    asked = next(unused)
    store.add_verdicts([Verdict(q, asked, *n) for q, n in zip(questions, row, strict=True)])
    [was], [then] = (store.labels([asked], weights, rule) for weights in (before, after))
    flips = [Outlook(asked, outcome(was), outcome(then), was.p, then.p, 0)] if outcome(was) != outcome(then) else []
    assert store.outlook([asked], before, after, rule) == Prospects(1 - len(flips), flips, [])


# --- by hand -------------------------------------------------------------------------------------------------------


def test_a_margin_of_more_than_half_the_new_weight_cannot_flip(store, world):
    """One principle of weight 2 in force, one of weight w added. Under w = 1 the mean of s is at least (2s - 1) / 3,
    which is 0.2 for s = 0.8: p from 0.6. For s = 0.6 it is 1/15: under the margin of a tie, 0.1."""
    [clear, near, other], [old, new] = world.fill(store, 3, 2)
    store.add_verdicts(
        [world.verdict(old, clear, 0.9, 0.9), world.verdict(old, near, 0.8, 0.8), world.verdict(old, other, 0.1, 0.1)]
    )
    everything, rule = [near, clear, other, near], LabelRule()
    before, after = {old: 2_000}, {old: 2_000, new: 1_000}
    open = [Outlook(near, "first", None, 800_000_000, 800_000_000, 1_000)]
    assert store.outlook(everything, before, after, rule) == Prospects(2, [], open)
    assert store.outlook(everything, before, {old: 2_000, new: 100}, rule) == Prospects(3, [], [])
    assert len(store.outlook(everything, before, {old: 2_000, new: 3_000}, rule).open) == 3  # mostly unread yet

    # Once it is answered nothing is open. Here 3 x 0.6 and 2 x -0.9 cancel out.
    store.add_verdicts([world.verdict(new, id, 0.05, 0.05) for id in (clear, near, other)])
    flips = [Outlook(near, "first", "tied", 800_000_000, 500_000_000, 0)]
    assert store.outlook([near], before, {old: 3_000, new: 2_000}, rule) == Prospects(0, flips, [])
    assert store.outlook([clear], before, after, rule) == Prospects(1, [], [])


def test_the_exact_edge_of_a_tie(store, world):
    """s = 0.6 of weight 2, and weight 1 may pull by -1: the mean is 0.2 / 3 at the lowest, p = 0.533333333 rounded down
    and 2p - 1 = 0.066666666. Decided for sure while the margin of a tie is that, and open from the next unit on."""
    [pair], [old, new] = world.fill(store, 1, 2)
    store.add_verdicts([world.verdict(old, pair, 0.8, 0.8)])
    before, after = {old: 2_000}, {old: 2_000, new: 1_000}
    for margin, open in [(0.066666666, 0), (0.066666667, 1)]:
        found = store.outlook([pair], before, after, LabelRule(tie_margin=margin))
        assert (found.same, len(found.open)) == (1 - open, open)


def test_what_cannot_be_read_yet_is_open_and_what_never_can_is_sure(store, world):
    """At least half of the weight has to be readable."""
    [dark, half_dark, silent], [old, new, third] = world.fill(store, 3, 3)
    store.add_verdicts(
        [
            world.verdict(old, dark, mass=0.1),
            world.verdict(third, dark, mass=0.1),
            world.verdict(old, half_dark, 0.9, 0.9),
            world.verdict(third, half_dark, mass=0.1),
        ]
    )
    rule, before = LabelRule(), {old: 1_000}
    hopeless = store.outlook([dark], before, {old: 1_000, third: 1_000, new: 1_000}, rule)
    assert hopeless == Prospects(1, [], [])  # unreadable before; at most a third of the weight after
    lost = store.outlook([half_dark], before, {third: 1_000}, rule)
    assert lost == Prospects(0, [Outlook(half_dark, "first", "unreadable", 900_000_000, HALF, 0)], [])
    may_read = store.outlook([half_dark], before, {old: 1_000, third: 1_000, new: 1_000}, rule)
    assert may_read.open == [Outlook(half_dark, "first", None, 900_000_000, 900_000_000, 1_000)]
    nobody_asked = store.outlook([silent], before, {new: 2_000}, rule)
    assert nobody_asked.open == [Outlook(silent, "unreadable", None, HALF, HALF, 2_000)]


def test_order_repeats_and_strangers(store, world):
    comparisons, [old, new] = world.fill(store, 12, 2)
    store.add_verdicts([world.verdict(old, id, 0.9, 0.9) for id in comparisons])
    store.add_verdicts([world.verdict(new, id, 0.1, 0.1) for id in comparisons[::2]])
    shuffled = [*comparisons[5:], *comparisons[:5], comparisons[7]]
    found = store.outlook(shuffled, {old: 1_000}, {new: 1_000}, LabelRule())
    assert [change.comparison for change in found.flips] == [id for id in shuffled[:12] if id in comparisons[::2]]
    assert [change.comparison for change in found.open] == [id for id in shuffled[:12] if id in comparisons[1::2]]
    assert found.same == 0
    assert store.outlook([], {old: 1_000}, {new: 1_000}, LabelRule()) == Prospects(0, [], [])
    with pytest.raises(KeyError):
        store.outlook([*comparisons, b"?" * 16], {old: 1_000}, {new: 1_000}, LabelRule())
    for weights in ({}, {old: -1}, {old: 5 * 10**9}):
        with pytest.raises(ValueError, match="weights"):
            store.outlook(comparisons, {old: 1_000}, weights, LabelRule())
        with pytest.raises(ValueError, match="weights"):
            store.outlook(comparisons, weights, {old: 1_000}, LabelRule())
