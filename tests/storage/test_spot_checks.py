"""What reviewers answered: undone by appending, found by query, on disk before it is told; a pair has one holder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from constitution.errors import UserError
from constitution.records import make_id
from storage.claims import REVIEW, StaleLease
from storage.store import Store

PAIR, OTHER = b"p" * 16, b"o" * 16


def test_a_spot_check_stands_until_it_is_undone_or_answered_again(store):
    first = store.add_spot_check("ana", PAIR, "first", reason="clearer", sampled_by="random", key="1")
    assert (first.answer, first.reason, first.sampled_by, first.comparison) == ("first", "clearer", "random", PAIR)
    other = store.add_spot_check("ben", PAIR, "tie", sampled_by="flips", key="2")
    assert store.spot_checks() == [first, other]
    changed = store.add_spot_check("ana", PAIR, "second", sampled_by="random", key="3")
    assert sorted(check.answer for check in store.spot_checks()) == ["second", "tie"]
    undone = store.undo_spot_check("ana", changed.event, "4")
    assert store.undo_spot_check("ana", changed.event, "4") == undone  # the button was pressed twice
    assert {check.event for check in store.spot_checks()} == {first.event, other.event}
    assert len(store.events("spot_check", "spot_check_undone")) == 4  # nothing was forgotten


def test_only_ones_own_standing_answer_can_be_undone(store):
    check = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1")
    with pytest.raises(UserError, match="ben has no standing answer"):
        store.undo_spot_check("ben", check.event, "2")
    store.undo_spot_check("ana", check.event, "3")
    with pytest.raises(UserError, match="ana has no standing answer"):
        store.undo_spot_check("ana", check.event, "4")
    assert len(store.events()) == 2  # a refused undo leaves nothing
    with pytest.raises(ValueError, match="'A' is not one of"):
        store.add_spot_check("ana", OTHER, "A", sampled_by="random", key="5")


ANSWERS = """
import sys
from storage.store import Store
with Store.open(sys.argv[1]) as store:
    for number in range(100_000):
        store.add_spot_check("ana", number.to_bytes(16, "big"), "first", sampled_by="random", key=str(number))
        print(number, flush=True)
"""


def test_an_acknowledged_answer_survives_a_killed_process(store_url, store, spawn):
    reviewer = spawn(ANSWERS, store_url)
    acknowledged = [int(reviewer.stdout.readline()) for _ in range(20)]
    reviewer.kill()
    reviewer.wait()
    stored = [int.from_bytes(check.comparison, "big") for check in store.spot_checks()]
    assert stored == list(range(len(stored)))
    assert stored[: len(acknowledged)] == acknowledged


# --- found by query ------------------------------------------------------------------------------------------------


@pytest.fixture
def answered(store):
    """Two runs of three and two pairs, one of them shared; answers of two reviewers."""
    pairs = [make_id("pair", n=n) for n in range(4)]
    one, two = (store.start_run(key, "improve", {}).id for key in ("one", "two"))
    store.add_members(one, "feedback", pairs[:2])
    store.add_members(one, "evaluation.pairs", pairs[2:3])
    store.add_members(two, "feedback", pairs[2:])
    said = [
        store.add_spot_check(who, pairs[n], "first", sampled_by=drawn, key=f"{who} {n} {drawn}")
        for who, n, drawn in (
            ("ana", 0, "random"), ("ana", 1, "flips"), ("ben", 0, "random"), ("ana", 2, "random"), ("ben", 3, "random"),
            ("ana", 1, "random"),
        )
    ]  # fmt: skip
    return one, two, pairs, said


def test_answers_of_a_run_are_found_by_its_members(store, answered):
    one, two, pairs, (first, flips, bens, evaluated, others, again) = answered
    assert store.spot_checks() == [first, again, bens, evaluated, others]  # `again` in the place of `flips`
    assert store.spot_checks(run=one) == [first, again, bens, evaluated]
    assert store.spot_checks(run=one, stages=["feedback"]) == [first, again, bens]
    assert store.spot_checks(run=two, stages=["feedback"]) == [evaluated, others]
    assert store.spot_checks(run=make_id("no run")) == []
    assert store.spot_checks(run=one, stages=[]) == []
    assert store.spot_checks(run=one, reviewer="ben") == [bens]
    assert store.spot_checks(comparisons=pairs[2:]) == [evaluated, others]
    assert store.spot_checks(comparisons=[]) == []
    assert store.spot_checks(run=one, comparisons=pairs[1:]) == [again, evaluated]
    assert store.spot_checks(sampled_by="flips") == []  # the answer that stands was drawn otherwise
    assert flips not in store.spot_checks(reviewer="ana", sampled_by="random")
    store.undo_spot_check("ana", again.event, "undo")
    assert store.spot_checks(run=one, sampled_by="flips") == [flips]  # what was said before stands again


def test_many_comparisons_are_asked_about_in_chunks_and_keep_their_order(store):
    pairs = [make_id("pair", n=n) for n in range(2_100)]
    said = [store.add_spot_check("ana", pairs[n], "tie", sampled_by="random", key=str(n)) for n in range(0, 2_100, 300)]
    assert store.spot_checks(comparisons=pairs) == said == store.spot_checks(comparisons=sorted(pairs))
    assert store.answered("ana", pairs) == {check.comparison for check in said}


def test_what_a_reviewer_has_answered_of_a_run(store, answered):
    one, two, pairs, said = answered
    assert store.answered("ana", pairs) == set(pairs[:3])
    assert store.answered("ana", pairs[1:2]) == {pairs[1]}
    assert store.answered("ana", run=one) == set(pairs[:3])
    assert store.answered("ana", run=one, stages=["evaluation.pairs"]) == {pairs[2]}
    assert store.answered("ben", run=two) == {pairs[3]}
    assert store.answered("zoe", pairs) == set()
    store.undo_spot_check("ana", said[0].event, "undo")
    assert store.answered("ana", run=one) == set(pairs[1:3])


# --- held while they are shown -------------------------------------------------------------------------------------


def test_an_answer_gives_back_its_pair_and_no_other(store):
    lease = store.claim(REVIEW, [PAIR, OTHER], "ana", 3_600)
    check = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1", lease=lease)
    assert store.holders(REVIEW, [PAIR, OTHER]) == {OTHER: "ana"}
    assert store.claim(REVIEW, [PAIR, OTHER], "ben", 3_600).ids == (PAIR,)
    # the same form sent twice: the first answer, though the pair is somebody else's by now
    assert store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1", lease=lease) == check
    with pytest.raises(UserError, match="used before"):
        store.add_spot_check("ana", PAIR, "second", sampled_by="random", key="1", lease=lease)
    with pytest.raises(StaleLease, match="ana lost 1 of 1"):
        store.add_spot_check("ana", PAIR, "second", sampled_by="random", key="2", lease=lease)
    assert store.spot_checks() == [check]
    assert store.holders(REVIEW, [PAIR]) == {PAIR: "ben"}
    store.add_spot_check("ana", OTHER, "tie", sampled_by="random", key="3", lease=lease)  # its lease is good
    assert store.holders(REVIEW, [PAIR, OTHER]) == {PAIR: "ben"}


def test_an_answer_that_comes_after_its_pair_went_to_somebody_else_is_refused(store):
    late = store.claim(REVIEW, [PAIR], "ana", -2)  # its time is up
    prompt = store.claim(REVIEW, [PAIR], "ben", 3_600)
    store.add_spot_check("ben", PAIR, "second", sampled_by="random", key="ben", lease=prompt)
    with pytest.raises(StaleLease):
        store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="ana", lease=late)
    assert [check.reviewer for check in store.spot_checks()] == ["ben"]
    alone = store.claim(REVIEW, [OTHER], "ana", -2)  # past its time, and nobody took it
    store.add_spot_check("ana", OTHER, "first", sampled_by="random", key="ana 2", lease=alone)
    assert store.answered("ana", [PAIR, OTHER]) == {OTHER}


REVIEWER = """
import sys
from constitution.records import make_id
from storage.claims import REVIEW
from storage.store import Store
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
pairs = [make_id("pair", n=n) for n in range(count)]
with Store.open(url) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        done = {check.comparison for check in store.spot_checks(comparisons=pairs)}
        held = store.holders(REVIEW, pairs)
        todo = [pair for pair in pairs if pair not in done and pair not in held][:2]
        if len(done) == count:
            break
        lease = store.claim(REVIEW, todo, name, 600)
        for pair in lease.ids:
            if pair in {check.comparison for check in store.spot_checks(comparisons=[pair])}:
                continue  # answered between the look and the claim
            for _ in range(2):  # every form is sent twice
                store.add_spot_check(name, pair, "tie", sampled_by="random", key=f"{name} {pair.hex()}", lease=lease)
        store.release(lease)
"""


def test_reviewers_in_several_processes_answer_each_pair_once(store_url, store, spawn):
    count = 40
    reviewers = [spawn(REVIEWER, store_url, name, count) for name in ("ana", "ben", "zoe")]
    for reviewer in reviewers:
        assert reviewer.stdout.readline() == "ready\n"
    for reviewer in reviewers:
        reviewer.stdin.write("go\n")
        reviewer.stdin.flush()
    assert [reviewer.wait(timeout=200) for reviewer in reviewers] == [0, 0, 0]
    about = [check.comparison for check in store.spot_checks()]
    assert sorted(about) == sorted(make_id("pair", n=n) for n in range(count))  # nobody answered another's pair
    assert len(store.events("spot_check")) == count  # and no form counts twice
    assert store.holders(REVIEW, about) == {}


def test_one_key_from_many_threads_at_once_is_one_answer(store_url, store):
    lease = store.claim(REVIEW, [PAIR], "ana", 3_600)

    def send(_):
        with Store.open(store_url) as mine:
            return mine.add_spot_check("ana", PAIR, "first", sampled_by="random", key="once", lease=lease)

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(send, range(12)))
    assert answers == set(store.spot_checks()) and len(answers) == 1


def test_of_two_who_undo_an_answer_at_once_one_does(store_url, store):
    check = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1")

    def undo(number):
        with Store.open(store_url) as mine:
            try:
                mine.undo_spot_check("ana", check.event, f"undo {number}")
            except UserError:
                return 0
            return 1

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(undo, range(6))) == 1
    assert len(store.events("spot_check_undone")) == 1 and store.spot_checks() == []


def test_neither_is_kept_with_the_rewrite_and_the_principle_that_decided(store):
    check = store.add_spot_check(
        "ana", PAIR, "neither", reason="both preach", sampled_by="random", key="1", principle="kind", rewrite="Better.",
        probability=0.25,
    )  # fmt: skip
    assert store.spot_checks() == [check] == [store.spot_check(check.event)]
    assert (check.answer, check.principle, check.rewrite, check.probability) == ("neither", "kind", "Better.", 0.25)
    assert check.share is None
    plain = store.add_spot_check("ana", OTHER, "tie", sampled_by="random", key="2")
    assert (plain.principle, plain.rewrite, plain.probability, plain.share) == ("", "", None, 0.5)
    [_, event] = store.events("spot_check")
    assert sorted(event.payload) == ["answer", "comparison", "reason", "sampled_by"]  # as stores of before have it


def test_what_was_said_of_one_principle_is_not_said_of_the_whole(store):
    whole = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1")
    one = store.add_spot_check("ana", PAIR, "second", sampled_by="random", key="2", asked="kind")
    assert store.spot_checks() == [whole]
    assert store.spot_checks(asked="kind") == [one] and one.asked == "kind"
    assert store.spot_checks(asked="short") == []
    assert store.answered("ana", [PAIR, OTHER], asked="kind") == {PAIR}
    assert store.answered("ana", [PAIR], asked="short") == set()
    store.undo_spot_check("ana", one.event, "3")
    assert store.spot_checks(asked="kind") == [] and store.spot_checks() == [whole]


def test_what_a_reviewer_did_is_read_on_from_where_it_was_left(store):
    first = store.add_spot_check("ana", PAIR, "first", sampled_by="random", key="1")
    store.add_spot_check("ben", PAIR, "first", sampled_by="random", key="2")
    done, number = store.reviewed("ana")
    assert [about for _, about, _ in done] == [PAIR]
    assert store.reviewed("ana", since=number) == ([], number)
    store.undo_spot_check("ana", first.event, "3")
    again, later = store.reviewed("ana", since=number)
    assert [about for _, about, _ in again] == [PAIR] and later > number
    assert store.reviewed("ana", day="9999-01-01")[0] == []
