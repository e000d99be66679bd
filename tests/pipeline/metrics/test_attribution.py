"""What each principle does to a label: against the store's own labels, and by hand."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from constitution.records import PROBABILITY, Comparison, LabelRule, Message, Prompt, Question, Verdict, text_digest
from pipeline.metrics import attribution, voting
from pipeline.metrics.attribution import FIRST, OUTCOMES, SECOND, TIED, UNREADABLE

PLAIN_MEAN = LabelRule(consistent=False, min_margin=0.0, tie_margin=0.0)
STRICT = LabelRule(min_mass=0.7, min_margin=0.99, min_readable=0.9, tie_margin=0.3)
RULES = (LabelRule(), PLAIN_MEAN, STRICT, LabelRule(min_readable=0.0, tie_margin=1.0))
WEIGHTS = {"heavy": 5_000, "light": 1, "odd": 333, "idle": 0, "twin": 2_000}


def fill(store, n, k):
    """n comparisons, k questions and verdicts at random: some missing, some unreadable, some exactly even."""
    prompt = Prompt((Message("user", "which?"),), "train")
    texts = [f"answer {number}" for number in range(n + 1)]
    pairs = [Comparison.of(prompt.id, text_digest(one), text_digest(two)) for one, two in pairwise(texts)]
    questions = [Question("judge", {}, f"template {number}") for number in range(k)]
    store.add_prompts([prompt])
    store.add_answers(texts)
    store.add_comparisons(pairs)
    store.add_questions(questions)
    random = np.random.default_rng(3)
    edges = [0, 1, PROBABILITY // 2 - 1, PROBABILITY // 2, PROBABILITY // 2 + 1, PROBABILITY - 1, PROBABILITY]

    def probability():
        return int(random.choice(edges) if random.random() < 0.3 else random.integers(0, PROBABILITY + 1))

    verdicts = [
        Verdict(question.id, pair.id, p, p if random.random() < 0.6 else probability(), *masses)
        for pair in pairs
        for question in questions
        if random.random() < 0.9
        for p, masses in [(probability(), [int(random.choice([0, 6 * 10**8, PROBABILITY], p=[0.1, 0.2, 0.7]))] * 2)]
    ]
    store.add_verdicts(verdicts)
    return [pair.id for pair in pairs], [question.id for question in questions]


@pytest.mark.parametrize("rule", RULES)
def test_labels_are_the_store_s_with_all_principles_and_with_each_left_out(store, rule):
    comparisons, questions = fill(store, 300, len(WEIGHTS) - 1)
    asked = dict(zip(WEIGHTS, [*questions, questions[0]], strict=True))  # `twin` has the words of `heavy`
    votes = voting.votes(store.evidence(comparisons, questions), asked, WEIGHTS, rule)

    def stored(left_out=None):
        weights = dict.fromkeys(questions, 0)
        for name, question in asked.items():
            weights[question] += WEIGHTS[name] if name != left_out else 0
        return store.labels(comparisons, weights, rule)

    everything = attribution.sums(votes)
    assert attribution.records(votes, everything) == stored()
    _, without = attribution.left_out(votes)
    for i, name in enumerate(WEIGHTS):
        one_out = attribution.without(votes, everything, i)
        expected = stored(name)
        assert attribution.records(votes, one_out) == expected
        sides = [
            UNREADABLE if x.state == "unreadable" else {True: FIRST, False: SECOND, None: TIED}[x.preferred_first]
            for x in expected
        ]
        assert without[:, i].tolist() == sides
    assert len(set(without.ravel().tolist())) > 2  # the data had something to tell


def test_parts_add_up_to_the_label_exactly(votes):
    """Weights 3 and 1, s 0.8 and -0.6: 3 * 0.8 / 8 = 0.3 and -0.6 / 8 = -0.075, so p = 0.725."""
    found = votes([[0.9, 0.2, 0.99, 0.3]], [[0.9, 0.2, 0.01, 0.3]], {"up": 3, "down": 1, "flips": 5, "dark": 1},
                  mass=[[1, 1, 1, 0.2]])  # fmt: skip
    account = attribution.account(found, 0)
    parts = {part.principle: part for part in account.parts}
    assert [(part.standing, part.moved) for part in account.parts] == [
        ("bears", Fraction(3, 10)), ("bears", Fraction(-3, 40)), ("does not bear", 0), ("unreadable", 0)
    ]  # fmt: skip
    assert (account.outcome, account.label.state, account.label.p) == ("first", "decided", 725_000_000)
    assert Fraction(1, 2) + sum(part.moved for part in account.parts) == Fraction(account.label.p, PROBABILITY)
    assert {name: part.without for name, part in parts.items()} == {
        "up": "second", "down": "first", "flips": "first", "dark": "first"
    }  # fmt: skip


def test_parts_of_random_labels_add_up_before_rounding(votes):
    random = np.random.default_rng(0)
    p = random.random((50, 4))
    found = votes(p, p, {"a": 5, "b": 0.333, "c": 1, "d": 2}, rule=PLAIN_MEAN)
    for row in range(50):
        account = attribution.account(found, row)
        exact = Fraction(1, 2) + sum(part.moved for part in account.parts)
        assert (exact * PROBABILITY).__floor__() == account.label.p


def test_a_principle_that_was_not_judged_is_unreadable_weight(votes):
    found = votes([[0.9, np.nan]], [[0.9, np.nan]], {"judged": 1, "new": 3})
    account = attribution.account(found, 0)
    assert (account.label.state, account.parts[1].standing, account.parts[1].s) == ("unreadable", "not judged", None)
    assert account.parts[1].without == "first"


def test_a_question_the_store_never_heard_of_is_not_judged(arrays):
    evidence = arrays([[0.9]], [[0.9]])
    asked = {"judged": evidence.questions[0], "new": b"unheard of"}
    found = voting.votes(evidence, asked, {"judged": 1000, "new": 10}, LabelRule())
    assert found.present.tolist() == [[True, False]]


def test_flips_count_what_changes_and_say_which(votes):
    #       heavy says   light says
    rows = [(0.99, 0.01), (0.99, 0.99), (0.5, 0.99), (0.99, 0.5), (0.5, 0.5)]
    found = votes(rows, rows, {"heavy": 3, "light": 1})
    heavy, light = attribution.flips(found)
    assert heavy.changes == {("first", "second"): 1, ("first", "tied"): 1}
    assert heavy.comparisons == (found.comparisons[0], found.comparisons[3])
    assert light.changes == {("first", "tied"): 1} and light.comparisons == (found.comparisons[2],)
    assert heavy.labels == 5 and heavy.count == 2


def test_words_in_common_share_the_pull_by_weight(votes):
    found = votes([[0.9]], [[0.9]], {"one": 3, "other": 1}, shared={"other": "one"})
    assert [part.moved for part in attribution.account(found, 0).parts] == [Fraction(3, 10), Fraction(1, 10)]
    assert [flips.count for flips in attribution.flips(found)] == [0, 0]  # the other still says it


def test_the_only_principle_left_out_leaves_ties(votes):
    before, after = attribution.left_out(votes([[0.9], [0.1]], [[0.9], [0.1]], {"only": 1}))
    assert [OUTCOMES[code] for code in before] == ["first", "second"]
    assert (after == TIED).all()


def test_weights_that_cannot_be_summed_are_refused(votes):
    with pytest.raises(ValueError, match="at most 4 million"):
        votes([[0.9]], [[0.9]], {"one": 4_000_001})
