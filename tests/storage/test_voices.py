"""Tiers, hard constraints, clamps and rules by question: the query, the matrices of analyses, the outlook of an
amendment and the judge as a reward all give the label of the plain reference, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from constitution.records import PROBABILITY, Label, LabelRule, Verdict, Voice, together
from pipeline.metrics import attribution, voting
from pipeline.rewards.judge import probabilities
from storage.store import Store
from tests import plain_labels

ONE, HALF = PROBABILITY, PROBABILITY // 2
QUESTIONS = 5
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

probabilities_of = st.sampled_from([0, 1, HALF - 1, HALF, HALF + 1, ONE - 1, ONE, 6 * 10**8, 4 * 10**8]) | st.integers(
    0, ONE
)
masses = st.sampled_from([0, HALF, ONE, ONE, ONE])
numbers = st.tuples(probabilities_of, probabilities_of, masses, masses)
sure = st.sampled_from([(ONE,) * 4, (0, 0, ONE, ONE), (HALF, HALF, ONE, ONE), (7 * 10**8, 7 * 10**8, ONE, ONE)])
verdicts = st.none() | sure | sure | numbers
fractions = st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0])
rules = st.builds(LabelRule, fractions, st.booleans(), fractions, fractions, fractions)
voices = st.builds(
    Voice,
    st.sampled_from([0, 1, 250, 1_000, 1_000, 2_000, 700_000_000]),
    st.sampled_from([0, 0, 1, 2, -1]),
    st.booleans(),
    st.sampled_from([None, None, 2 * 10**8, 0]),
    st.none() | rules,
)
panels = st.dictionaries(st.integers(0, QUESTIONS - 1), voices, min_size=1)
rows = st.lists(verdicts, min_size=QUESTIONS, max_size=QUESTIONS)
FOR_FIRST, FOR_SECOND, EVEN = (
    [(ONE,) * 4] * QUESTIONS,
    [(0, 0, ONE, ONE)] * QUESTIONS,
    [(HALF, HALF, ONE, ONE)] * QUESTIONS,
)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def judged(request, tmp_path_factory, world) -> Iterator[tuple]:
    """One store for all examples: each example has comparisons of its own."""
    if request.param == "sqlite":
        url = tmp_path_factory.mktemp("voices") / "voices.db"
    else:
        url = request.getfixturevalue("postgres").new_schema()
    with Store.open(url) as store:
        comparisons, questions = world.fill(store, 1_500, QUESTIONS)
        yield store, iter(comparisons), questions


def keep(store, questions, comparison, row):
    found = [Verdict(q, comparison, *n) for q, n in zip(questions, row, strict=True) if n]
    store.add_verdicts(found)
    return found


def by_question(questions, panel):
    return {questions[i]: voice for i, voice in panel.items()}


@FEW
@given(st.lists(rows, min_size=1, max_size=4), panels, rules)
@example(
    [[(ONE,) * 4, (0, 0, ONE, ONE), None, None, None]], {0: Voice(1, hard=True), 1: Voice(9, hard=True)}, LabelRule()
)
def test_every_way_to_a_label_is_the_plain_one(judged, drawn, panel, rule):
    store, unused, questions = judged
    said = by_question(questions, panel)
    asked = [next(unused) for _ in drawn]
    heard = {id: keep(store, questions, id, row) for id, row in zip(asked, drawn, strict=True)}
    plain = [plain_labels.label(id, heard[id], said, rule) for id in asked]
    assert store.labels(asked, said, rule) == plain

    names = {f"p{i}": questions[i] for i in panel}
    votes = voting.votes(store.evidence(asked, list(said)), names, {f"p{i}": v for i, v in panel.items()}, rule)
    everything = attribution.sums(votes)
    assert attribution.records(votes, everything) == plain
    for place, name in enumerate(names):
        rest = {q: voice for q, voice in said.items() if q != names[name]}
        if rest:
            without = [plain_labels.label(id, heard[id], rest, rule) for id in asked]
            assert attribution.records(votes, attribution.without(votes, everything, place)) == without

    every = [v for id in asked for v in heard[id] if v.question in said]
    p = probabilities(every, said, rule)
    for label in plain:
        if label.comparison in p:
            found = p[label.comparison]
            assert (found is None) == (label.state == "unreadable")
            assert round((0.5 if found is None else found) * ONE) == label.p


@FEW
@given(rows, panels, rules)
def test_the_parts_of_a_label_add_up(judged, row, panel, rule):
    store, unused, questions = judged
    asked = next(unused)
    keep(store, questions, asked, row)
    names = {f"p{i}": questions[i] for i in panel}
    votes = voting.votes(store.evidence([asked], questions), names, {f"p{i}": v for i, v in panel.items()}, rule)
    account = attribution.account(votes, 0)
    if account.label.state != "unreadable":
        exact = sum(part.moved for part in account.parts) * ONE + HALF
        assert (exact // 1) == account.label.p


@FEW
@given(rows, panels, panels, rules, st.lists(rows, min_size=2, max_size=2))
def test_sure_is_sure_and_open_is_open(judged, row, before, after, rule, drawn):
    store, unused, questions = judged
    old, new = by_question(questions, before), by_question(questions, after)
    fillings = [FOR_FIRST, FOR_SECOND, [None] * QUESTIONS, EVEN, *drawn]
    asked, *filled = (next(unused) for _ in range(1 + len(fillings)))
    several = [[was or will for was, will in zip(row, filling, strict=True)] for filling in fillings]
    for id, numbers in zip([asked, *filled], [row, *several], strict=True):
        keep(store, questions, id, numbers)

    def outcome(label: Label) -> str:
        return (
            {True: "first", False: "second", None: "tied"}[label.preferred_first]
            if label.state == "decided"
            else label.state
        )

    was, could = outcome(store.labels([asked], old, rule)[0]), [outcome(x) for x in store.labels(filled, new, rule)]
    prospects = store.outlook([asked], old, new, rule)
    assert prospects.same + len(prospects.flips) + len(prospects.open) == 1
    if not prospects.open:
        then = prospects.flips[0].after if prospects.flips else was
        assert set(could) == {then} and bool(prospects.flips) == (then != was)


@FEW
@given(
    st.lists(rows, min_size=1, max_size=3),
    st.dictionaries(st.integers(0, QUESTIONS - 1), st.integers(0, 5_000), min_size=1),
    rules,
)
def test_voices_of_one_tier_are_the_weighted_mean_of_before(judged, drawn, weights, rule):
    store, unused, questions = judged
    asked = [next(unused) for _ in drawn]
    for id, row in zip(asked, drawn, strict=True):
        keep(store, questions, id, row)
    plain = {questions[i]: weight for i, weight in weights.items()}
    labels = store.labels(asked, plain, rule)
    for tier in (0, 7, -3):
        assert store.labels(asked, {q: Voice(weight, tier) for q, weight in plain.items()}, rule) == labels
        assert (
            store.labels(asked, {q: Voice(weight, tier, clamp=ONE, rule=rule) for q, weight in plain.items()}, rule)
            == labels
        )


# --- by hand -------------------------------------------------------------------------------------------------------


def test_a_tier_decides_before_the_next_and_passes_on_where_it_is_tied(store, world):
    [clear, near, silent], [high, low] = world.fill(store, 3, 2)
    store.add_verdicts(
        [
            world.verdict(high, clear, 0.9, 0.9), world.verdict(low, clear, 0.0, 0.0),
            world.verdict(high, near, 0.52, 0.52), world.verdict(low, near, 0.2, 0.2),
            world.verdict(high, silent, 0.9, 0.1), world.verdict(low, silent, 0.2, 0.2),
        ]
    )  # fmt: skip
    said, rule = {high: Voice(1, tier=1), low: Voice(9_000)}, LabelRule(min_margin=0.0)
    labels = store.labels([clear, near, silent], said, rule)
    assert labels == [
        Label(clear, "decided", 900_000_000), Label(near, "decided", 200_000_000), Label(silent, "decided", 200_000_000)
    ]  # fmt: skip


def test_a_hard_constraint_vetoes_and_two_that_differ_are_a_conflict(store, world):
    [veto, conflict, unsure], [one, other, soft] = world.fill(store, 3, 3)
    store.add_verdicts(
        [
            world.verdict(one, veto, 0.1, 0.1), world.verdict(other, veto, 0.5, 0.5), world.verdict(soft, veto, 1, 1),
            world.verdict(one, conflict, 0.1, 0.1), world.verdict(other, conflict, 0.9, 0.9),
            world.verdict(soft, conflict, 1, 1),
            world.verdict(one, unsure, 0.48, 0.48), world.verdict(other, unsure, 0.5, 0.5),
            world.verdict(soft, unsure, 1, 1),
        ]
    )  # fmt: skip
    said = {one: Voice(1, hard=True), other: Voice(9_000, hard=True), soft: Voice(9_000, tier=5)}
    assert store.labels([veto, conflict, unsure], said, LabelRule(min_margin=0.0)) == [
        Label(veto, "decided", 100_000_000),
        Label(conflict, "tied", HALF, conflict=True),
        Label(unsure, "decided", ONE),  # a hard constraint that is nearly even says nothing
    ]


def test_a_hard_constraint_that_cannot_be_read_leaves_no_label(store, world):
    [dark, even, missing], [hard, soft, more] = world.fill(store, 3, 3)
    for pair in (dark, even, missing):
        store.add_verdicts([world.verdict(soft, pair, 1, 1), world.verdict(more, pair, 1, 1)])
    store.add_verdicts([Verdict(hard, dark, 0, 0, ONE, 0), Verdict(hard, even, HALF, HALF, ONE, ONE)])
    said = {hard: Voice(1, hard=True), soft: Voice(9_000), more: Voice(9_000)}
    labels = store.labels([dark, even, missing], said, LabelRule())
    assert labels == [Label(dark, "unreadable", HALF), Label(even, "decided", ONE), Label(missing, "decided", ONE)]
    softer = said | {hard: Voice(1)}
    assert store.labels([dark], softer, LabelRule()) == [Label(dark, "decided", ONE)]
    assert store.labels([dark], said | {hard: Voice(0, hard=True)}, LabelRule()) == [Label(dark, "decided", ONE)]


def test_a_clamped_verdict_says_less_and_votes_as_before(store, world):
    [pair], [reasoned, read] = world.fill(store, 1, 2)
    store.add_verdicts([world.verdict(reasoned, pair, 1.0, 1.0), world.verdict(read, pair, 0.2, 0.2)])
    said = {reasoned: Voice(1_000, clamp=200_000_000), read: Voice(1_000)}
    assert store.labels([pair], said, LabelRule()) == [Label(pair, "decided", 400_000_000)]  # (0.2 - 0.6) / 4 + 0.5
    assert store.labels([pair], {reasoned: said[reasoned]}, LabelRule()) == [Label(pair, "decided", 600_000_000)]


def test_principles_with_the_same_words_have_one_voice() -> None:
    assert together([Voice(1), Voice(2, tier=3), Voice(4, hard=True)]) == Voice(7, tier=3, hard=True)
