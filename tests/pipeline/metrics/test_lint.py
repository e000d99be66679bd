"""Constructed verdicts on which each finding must appear, and their neighbours on which it must not."""

from __future__ import annotations

import numpy as np
import pytest

from constitution.records import Comparison, LabelRule, make_id, text_digest
from pipeline.metrics import lint as linting
from pipeline.metrics.consistency import Probe
from pipeline.metrics.intervals import Share
from pipeline.metrics.lint import lint

N = 400
FIRST, SECOND, EVEN = 0.99, 0.01, 0.5


def sides(n=N, seed=0):
    """The better answer of n pairs, at random."""
    return np.where(np.random.default_rng(seed).random(n) < 0.5, FIRST, SECOND)


def on(rows, values, n=N):
    """Values on some rows; elsewhere neither answer is better."""
    found = np.full(n, EVEN)
    found[rows] = values[rows]
    return found


def columns(**principles):
    return np.stack(list(principles.values()), axis=1)


def kinds(found, *principles):
    return {f.kind for f in found.findings if set(principles) <= set(f.principles)}


def only(found, kind):
    (finding,) = [f for f in found.findings if f.kind == kind]
    return finding


@pytest.fixture
def judged(votes):
    """Votes of principles whose two orders say the same, with weights of 1 or as given."""

    def build(weights=None, rule=None, **principles):
        p = columns(**principles)
        return votes(p, p, dict.fromkeys(principles, 1) | (weights or {}), rule=rule)

    return build


# --- two principles ------------------------------------------------------------------------------------------------


def test_principles_that_vote_alike_are_redundant(judged):
    better = sides()
    found = only(lint(judged(one=better, same=better, other=sides(seed=1))), "redundant")
    assert found.principles == ("one", "same") and found.severity == "notice"
    pairing = found.evidence["pairings"][0]
    assert pairing["same"]["count"] == pairing["same"]["of"] == N
    assert pairing["same"]["low"] == pytest.approx(0.05 ** (1 / N), abs=1e-6)  # of N of N, where its half is 2.5%
    assert pairing["overlap"]["share"] == 1
    assert found.evidence["labels_changed"] == 0 and "400" in found.sentence


def test_three_alike_are_one_finding(judged):
    better = sides()
    found = only(lint(judged(one=better, two=better, three=better, other=sides(seed=1))), "redundant")
    assert found.principles == ("one", "two", "three") and len(found.evidence["pairings"]) == 3


def test_the_same_answer_on_other_pairs_is_not_redundant(judged):
    better, half = sides(), np.arange(N) < N // 2
    nested = judged(whole=better, part=on(half, better), other=sides(seed=1))
    assert "redundant" not in kinds(lint(nested))


def test_nearly_always_the_same_is_not_always(judged):
    better = sides()
    other = better.copy()
    other[: N // 10] = 1 - other[: N // 10]
    assert "redundant" not in kinds(lint(judged(one=better, other=other)))


def test_few_pairs_in_common_show_no_redundancy(judged):
    some = np.arange(N) < 40
    better = sides()
    assert "redundant" not in kinds(lint(judged(one=on(some, better), two=on(some, better), other=sides(seed=1))))


def test_contradiction_says_where_and_who_loses(judged):
    better, some = sides(), np.arange(N) < 60
    against = on(some, 1 - better)
    against[50:60] = better[50:60]
    against[3] = 0.75 if against[3] > 0.5 else 0.25
    found = only(lint(judged({"strong": 5}, strong=better, weak=against)), "conflict")
    assert found.principles == ("weak", "strong") and found.severity == "notice"
    (pairing,) = found.evidence["pairings"]
    assert (pairing["same"]["count"], pairing["same"]["of"]) == (10, 60)
    assert pairing["label_follows"] == {"strong": 50, "weak": 0}
    assert "`strong` on 50 of 60 pairs (83%, at least 72%) and wins 0" in found.sentence
    ids = judged(strong=better).comparisons
    assert set(found.comparisons) <= set(ids[:50]) and ids[3] not in found.comparisons  # the clearest ones
    assert len(found.comparisons) == 20


def test_principles_that_have_nothing_to_do_with_each_other_are_no_conflict(judged):
    assert "conflict" not in kinds(lint(judged(one=sides(), other=sides(seed=1))))


def test_many_principles_that_have_nothing_to_do_with_each_other_are_no_conflict(judged):
    """Of 120 pairings, three are beyond a 95% interval by chance."""
    many = {f"p{number}": column for number, column in enumerate(sides(16 * N).reshape(16, N))}
    found = lint(judged(**many))
    assert any(p.differ.low > 0.5 for p in found.pairings) and "conflict" not in kinds(found)


def test_a_few_contradictions_are_no_conflict(judged):
    better, some = sides(), np.arange(N) < 19
    assert "conflict" not in kinds(lint(judged(one=better, other=on(some, 1 - better))))


def test_the_same_words_are_told_of_once(votes):
    p = columns(one=sides(), other=sides(seed=1))
    found = lint(votes(p, p, {"one": 2, "copy": 3, "other": 1}, shared={"copy": "one"}))
    same = only(found, "same words")
    assert same.principles == ("one", "copy") and same.severity == "warning" and same.evidence == {"weight": 5.0}
    assert "redundant" not in kinds(found)


# --- one principle that does nothing -------------------------------------------------------------------------------


def test_a_principle_outvoted_for_its_weight_is_too_light(judged):
    better, some = sides(), np.arange(N) < 50
    found = lint(judged({"heavy": 10}, heavy=better, light=on(some, 1 - better)))
    finding = only(found, "weight too small")
    assert finding.principles == ("light",)
    # At weight 10 it ties what it contradicts; without it those labels are decided.
    assert finding.evidence == {
        "bears_on": 50, "labels": N, "flips": 0, "weight": 1.0, "heaviest": 10.0, "flips_at_heaviest": 50
    }  # fmt: skip


def test_a_principle_that_echoes_others_never_decides(judged):
    better, some = sides(), np.arange(N) < 50
    found = lint(judged({"heavy": 2}, heavy=better, echo=on(some, better)))
    assert only(found, "never decides").principles == ("echo",)
    assert "not even at weight 2" in only(found, "never decides").sentence


def test_a_principle_that_decides_one_label_is_left_alone(judged):
    better = sides()
    alone = on(np.arange(N) < 50, 1 - better)
    heavy = better.copy()
    heavy[0] = EVEN
    found = lint(judged({"heavy": 10}, heavy=heavy, light=alone))
    assert not kinds(found, "light") & {"weight too small", "never decides", "never votes"}
    assert found.figures[1].flips.count == 1


def test_a_principle_that_is_never_sure_never_votes(judged):
    unsure = np.where(sides() > 0.5, 0.6, 0.4)
    found = only(lint(judged(sure=sides(seed=1), unsure=unsure)), "never votes")
    assert found.principles == ("unsure",) and found.severity == "warning"


def test_too_few_labels_are_not_enough_to_say_so(judged):
    better = sides(99)
    found = lint(judged({"heavy": 10}, heavy=better, light=np.where(np.arange(99) < 50, 1 - better, EVEN)))
    assert not kinds(found, "light") & {"weight too small", "never decides"}
    assert only(found, "not enough evidence").evidence == {"heavy": 99, "light": 99}
    assert "(99)" in only(found, "not enough evidence").sentence


# --- the order of the answers --------------------------------------------------------------------------------------


def answer(number):
    return text_digest(f"answer {number}")


def chain(n=N):
    """n comparisons: of answers 0 and 1, 1 and 2, and so on."""
    return [Comparison.of(make_id("prompt"), answer(number), answer(number + 1)) for number in range(n)]


def preferring(quality):
    """Of a chain of answers of that quality: p that the first is the better, and where it applies: they differ."""
    by_answer = {answer(number): value for number, value in enumerate(quality)}
    margins = np.array([by_answer[c.first] - by_answer[c.second] for c in chain(len(quality) - 1)])
    return np.where(margins > 0, FIRST, SECOND), margins != 0


def by_position(n=N, seed=5):
    """Answers by position alone, A on some pairs and B on others: (p1, p2)."""
    says_a = np.random.default_rng(seed).random(n) < 0.7
    return np.where(says_a, FIRST, SECOND), np.where(says_a, SECOND, FIRST)


def ask(votes, p1, p2):
    """The principle beside one that is read, and the comparisons it is about."""
    known = chain(len(p1))
    good = sides(len(p1), seed=9)
    found = votes(columns(good=good, asked=p1), columns(good=good, asked=p2), {"good": 1, "asked": 1})
    return found, dict(zip(found.comparisons, known, strict=True))


def test_an_answer_by_position_depends_on_the_order(votes):
    found, known = ask(votes, *by_position())
    finding = only(lint(found, known), "order")
    assert finding.principles == ("asked",) and finding.severity == "warning"
    assert finding.evidence["same"]["count"] == 0 and finding.evidence["correlation"] < 0
    assert "on 0% of 400 pairs" in finding.sentence and kinds(lint(found, known), "asked") == {"order"}


def seldom_faulty():
    """Each 20th answer has a fault: it applies to a tenth of the pairs, two by two on the same answer."""
    return preferring([-(number % 20 == 1) for number in range(N + 1)])


def order_of_preference(pairs):
    """Answers each with a place of their own, so that all differ; it applies to the first pairs."""
    right, _ = preferring(np.random.default_rng(0).permutation(N + 1))
    return right, np.arange(N) < pairs


@pytest.mark.parametrize(("right", "applies"), [seldom_faulty(), order_of_preference(200)])
def test_an_answer_by_position_where_it_does_not_apply_and_right_where_it_does_is_fine(votes, right, applies):
    """The sandbox's judge: the orders agree seldom, their correlation is below 0, and where it votes it is right."""
    p1, p2 = (np.where(applies, right, by) for by in by_position(seed=6))
    found = lint(*ask(votes, p1, p2))
    figures = found.figures[1].orders
    assert figures.at_least < 0 and figures.same == Share(int(applies.sum()), N)
    assert figures.stands.low > 0.5 and figures.read
    assert not kinds(found, "asked") & {"order", "not enough evidence"}


def test_few_votes_by_an_order_of_preference_are_not_taken_for_guesses(votes):
    right, applies = order_of_preference(25)
    p1, p2 = (np.where(applies, right, by) for by in by_position())
    assert kinds(lint(*ask(votes, p1, p2)), "asked") <= {"not enough evidence"}


def test_guesses_in_each_order_depend_on_the_order(votes):
    """Sure of itself each time, and both orders agree on half of the pairs: by chance."""
    found = lint(*ask(votes, sides(seed=1), sides(seed=2)))
    finding = only(found, "order")
    assert finding.principles == ("asked",)
    assert 0.4 < finding.evidence["same"]["share"] < 0.6 and finding.evidence["stands"]["high"] < 2 / 3
    assert "fall as guesses would" in finding.sentence


def test_a_leaning_to_the_letter_a_does_not_hide_what_is_read(votes):
    """Both orders lean to A, and still go up and down together."""
    better = np.random.default_rng(4).uniform(0.1, 0.9, N)
    found = lint(*ask(votes, np.clip(better + 0.3, 0, 1), np.clip(better - 0.3, 0, 1)))
    assert "order" not in kinds(found, "asked")
    assert found.figures[1].orders.same.value < 0.5


def test_probes_can_show_that_it_is_read(votes):
    p1, p2 = by_position()
    p1[:5] = p2[:5] = FIRST  # too few votes to tell by
    found, known = ask(votes, p1, p2)
    unknown = lint(found, known)
    assert kinds(unknown, "asked") == {"not enough evidence"}
    assert "order" not in kinds(lint(found, known, {"asked": Probe(40, 0.5, 1.0)}), "asked")
    assert kinds(lint(found, known, {"asked": Probe(40, 0.5, 1.0)}), "asked") == set()
    assert "order" in kinds(lint(found, known, {"asked": Probe(40, 0.5, 0.5)}), "asked")


def test_few_pairs_say_nothing_about_the_order(votes):
    found = lint(*ask(votes, *by_position(99)))
    assert kinds(found, "asked") == {"not enough evidence"}


def test_comparisons_are_wanted_only_where_the_orders_do_not_go_together(votes):
    p1, p2 = by_position()
    p1[:5] = p2[:5] = FIRST
    found, _ = ask(votes, p1, p2)
    assert linting.unproven(found) == {"asked": found.comparisons[:5]}


def test_of_two_votes_at_one_answer_each_counts_once():
    from pipeline.metrics.orders import _stands

    named = [1, 1, 3, 4]  # of answers 0 and 1, 1 and 2, 2 and 3, 3 and 4: 1 wins both, 2 loses both, 3 wins and loses
    chained = [(c, c.first == answer(number)) for c, number in zip(chain(4), named, strict=True)]
    assert _stands(chained) == Share(2, 3)
    star = [(Comparison.of(make_id("prompt"), answer(0), answer(number)), True) for number in (1, 2, 3, 4, 5)]
    assert _stands(star).of == 2  # five verdicts at one answer are two pairs of them, not ten


# --- what was not judged -------------------------------------------------------------------------------------------


def test_words_without_a_verdict_are_not_judged_yet_and_touch_no_label(judged):
    better = sides()
    found = lint(judged({"new": 100}, one=better, other=sides(seed=1), new=np.full(N, np.nan)))
    finding = only(found, "not judged")
    assert finding.principles == ("new",) and finding.severity == "unknown"
    assert [f.principle for f in found.figures] == ["one", "other"]
    assert found.figures[0].flips.changes.keys() <= {("first", "tied"), ("second", "tied"), ("tied", "first"),
                                                     ("tied", "second")}  # fmt: skip


def test_a_principle_judged_on_some_pairs_is_spoken_of_on_those(judged):
    some = np.where(np.arange(N) < 150, sides(), np.nan)
    found = lint(judged(one=sides(seed=1), sampled=some))
    assert only(found, "not judged").evidence == {"judged": 150, "pairs": N}
    assert found.figures[1].judged == 150


def test_unreadable_verdicts_are_counted(votes):
    p = columns(one=sides(), dark=sides(seed=1))
    found = lint(votes(p, p, {"one": 1, "dark": 1}, mass=[[1.0, 0.1]]))
    assert found.figures[1].unreadable == N
    assert "400 cannot be read" in only(found, "never votes").sentence


def test_a_sound_constitution_has_no_finding(judged):
    found = lint(judged(one=sides(), two=sides(seed=1), three=sides(seed=2)))
    assert found.findings == [] and [f.bears for f in found.figures] == [N, N, N]


def test_the_plain_mean_of_the_papers_is_linted_too(judged):
    rule = LabelRule(consistent=False, min_margin=0.0, tie_margin=0.0)
    assert lint(judged(rule=rule, one=sides(), two=sides(seed=1), three=sides(seed=2))).findings == []


def test_nothing_judged_at_all(votes):
    empty = lint(votes(np.zeros((0, 2)), np.zeros((0, 2)), {"one": 1, "two": 1}))
    assert empty.comparisons == 0 and kinds(empty) == {"not judged"}
