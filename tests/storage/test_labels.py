"""Labels: the query against the rule written down in plain Python, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitution.records import PROBABILITY, Label, LabelRule, Verdict
from storage.store import Store

PLAIN_MEAN = LabelRule(consistent=False, min_margin=0.0, tie_margin=0.0)


def reference(comparison, verdicts, weights, rule):
    """`LabelRule`'s docstring, word by word, in exact fractions."""
    one = PROBABILITY
    readable = [v for v in verdicts if min(v.mass1, v.mass2) >= round(rule.min_mass * one)]
    if sum(weights[v.question] for v in readable) < Fraction(round(rule.min_readable * one), one) * sum(
        weights.values()
    ):
        return Label(comparison, "unreadable", one // 2)

    def bears(v):
        if 2 * v.p1 == one == 2 * v.p2:
            return False
        same = not rule.consistent or (2 * v.p1 > one and 2 * v.p2 > one) or (2 * v.p1 < one and 2 * v.p2 < one)
        return same and abs(v.p1 + v.p2 - one) >= round(rule.min_margin * one)

    voting = [v for v in readable if bears(v)]
    weight = sum(weights[v.question] for v in voting)
    if not weight:
        return Label(comparison, "tied", one // 2)
    pull = sum(weights[v.question] * (v.p1 + v.p2 - one) for v in voting)
    p = (Fraction(one, 2) + Fraction(pull, 2 * weight)).__floor__()
    return Label(comparison, "tied" if abs(2 * p - one) < round(rule.tie_margin * one) else "decided", p)


# Half, its neighbours and the ends are where a rule goes wrong.
half = PROBABILITY // 2
probabilities = st.one_of(
    st.sampled_from([0, 1, half - 1, half, half + 1, PROBABILITY - 1, PROBABILITY]), st.integers(0, PROBABILITY)
)
fractions = st.one_of(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.floats(0, 1))
rules = st.builds(LabelRule, fractions, st.booleans(), fractions, fractions, fractions)
evidence = st.tuples(probabilities, probabilities, probabilities, probabilities)
QUESTIONS = 4


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def judged(request, tmp_path_factory, world) -> Iterator[tuple]:
    """One store for all examples: each example has a comparison of its own."""
    if request.param == "sqlite":
        url = tmp_path_factory.mktemp("labels") / "labels.db"
    else:
        url = request.getfixturevalue("postgres").new_schema()
    with Store.open(url) as store:
        yield store, *world.fill(store, 1_000, QUESTIONS), iter(range(1_000))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.none() | evidence, min_size=QUESTIONS, max_size=QUESTIONS), min_size=1, max_size=4),
    st.lists(st.sampled_from([0, 1, 250, 1_000, 999_999_999]) | st.integers(0, 10_000), min_size=1, max_size=QUESTIONS),
    rules,
)
def test_the_query_is_the_rule(judged, rows, given_weights, rule):
    store, comparisons, questions, unused = judged
    weights = dict(zip(questions, given_weights, strict=False))
    asked, verdicts = [], []
    for row in rows:
        asked.append(comparisons[next(unused)])
        verdicts += [
            Verdict(question, asked[-1], *numbers) for question, numbers in zip(questions, row, strict=True) if numbers
        ]
    store.add_verdicts(verdicts)
    heard = {id: [v for v in verdicts if v.comparison == id and v.question in weights] for id in asked}
    assert store.labels(asked, weights, rule) == [reference(id, heard[id], weights, rule) for id in asked]

    parts = {(part.comparison, part.question): part for part in store.contributions(asked, weights, rule)}
    assert parts.keys() == {(v.comparison, v.question) for id in asked for v in heard[id]}
    for verdict in (v for id in asked for v in heard[id]):
        part = parts[verdict.comparison, verdict.question]
        assert (part.weight, part.s) == (weights[verdict.question], verdict.p1 + verdict.p2 - PROBABILITY)
        alone = reference(verdict.comparison, [verdict], {verdict.question: 1}, rule_alone(rule))
        assert part.readable == (alone.state != "unreadable")
        assert part.bears == (alone.state == "decided")


def rule_alone(rule):
    """A rule under which one verdict's label is decided exactly when that verdict votes."""
    return LabelRule(rule.min_mass, rule.consistent, rule.min_margin, min_readable=1.0, tie_margin=0.0)


def test_labels_by_hand(store, world):
    """Weights 3 and 1; s is 0.8 and -0.6: p = 1/2 + (3 * 0.8 - 0.6) / (2 * 4) = 0.725."""
    comparisons, [heavy, light] = world.fill(store, 4, 2)
    both, flipped, dark, silent = comparisons
    store.add_verdicts(
        [
            world.verdict(heavy, both, 0.9, 0.9),
            world.verdict(light, both, 0.2, 0.2),
            world.verdict(heavy, flipped, 0.95, 0.05),  # names the answer that stands first, whichever it is
            world.verdict(light, flipped, 0.9, 0.8),
            world.verdict(heavy, dark, 0.9, 0.9, mass=0.4),
            world.verdict(light, dark, 0.9, 0.9),
        ]
    )
    labels = store.labels([*comparisons, both], {heavy: 3_000, light: 1_000}, LabelRule())
    assert labels == [
        Label(both, "decided", 725_000_000),
        Label(flipped, "decided", 850_000_000),  # the flip has no vote
        Label(dark, "unreadable", half),  # a quarter of the weight is readable
        Label(silent, "unreadable", half),  # nobody was asked yet
    ]
    assert store.labels([flipped], {heavy: 1_000}, LabelRule()) == [Label(flipped, "tied", half)]
    assert store.labels([flipped], {heavy: 3_000, light: 1_000}, PLAIN_MEAN) == [Label(flipped, "decided", 587_500_000)]
    assert store.labels([dark], {light: 1_000}, LabelRule()) == [Label(dark, "decided", 900_000_000)]


def test_an_exact_half_in_both_orders_abstains_under_every_rule(store, world):
    [comparison, even], [applies, not_here] = world.fill(store, 2, 2)
    for id in (comparison, even):
        store.add_verdicts([world.verdict(not_here, id, 0.5, 0.5)])
    store.add_verdicts([world.verdict(applies, comparison, 0.9, 0.6), world.verdict(applies, even, 0.5, 0.5)])
    for rule in (PLAIN_MEAN, LabelRule(min_margin=0.0), LabelRule(min_margin=0.0, consistent=False, min_readable=1.0)):
        labels = store.labels([comparison, even], {applies: 1_000, not_here: 9_000}, rule)
        assert labels == [Label(comparison, "decided", 750_000_000), Label(even, "tied", half)]
        parts = store.contributions([comparison], {applies: 1, not_here: 1}, rule)
        assert {part.question: (part.readable, part.bears) for part in parts} == {
            applies: (True, True),
            not_here: (True, False),
        }


def test_a_label_does_not_depend_on_who_else_is_asked_about(store, world):
    comparisons, questions = world.fill(store, 40, 3)
    store.add_verdicts(
        [world.verdict(q, c, (7 * i + 3 * j) % 11 / 10, (5 * i + j) % 11 / 10)
         for i, c in enumerate(comparisons) for j, q in enumerate(questions)]
    )  # fmt: skip
    weights = dict.fromkeys(questions, 1_000)
    together = store.labels(comparisons, weights, LabelRule())
    alone = [store.labels([id], weights, LabelRule())[0] for id in comparisons]
    assert together == alone and len({label.state for label in together}) > 1


def test_weights_that_make_no_sense_are_refused(store, world):
    comparisons, [question] = world.fill(store, 1, 1)
    for weights in ({}, {question: -1}, {question: 5 * 10**9}):
        with pytest.raises(ValueError, match="weights"):
            store.labels(comparisons, weights, LabelRule())
    with pytest.raises(KeyError):
        store.labels([b"?" * 16], {question: 1}, LabelRule())
