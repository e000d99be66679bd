"""Two workers never hold one item; a stale writer is refused (promises, row 5)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.claims import REVIEW, StaleLease
from storage.store import Store


def ids(*numbers):
    return [number.to_bytes(16, "big") for number in numbers]


def test_nobody_gets_what_another_holds(store):
    mine = store.claim("judge", ids(1, 2, 3), "me", 3_600)
    assert mine.ids == tuple(ids(1, 2, 3))
    assert store.claim("judge", ids(3, 4), "you", 3_600).ids == tuple(ids(4))
    assert store.claim("another stage", ids(3), "you", 3_600).ids == tuple(ids(3))
    store.release(mine)
    assert store.claim("judge", ids(3, 1), "you", 3_600).ids == tuple(ids(3, 1))
    assert store.workers() == ["you"]


def test_what_a_dead_worker_held_can_be_given_back(store):
    store.claim("judge", ids(1, 2), "dead", 1_000)
    store.release_worker("dead")
    assert store.claim("judge", ids(1, 2), "alive", 3_600).ids == tuple(ids(1, 2))


def test_many_workers_share_a_list_without_overlap(store):
    todo = ids(*range(300))

    def work(worker):
        return store.claim("judge", todo[worker:] + todo[:worker], f"worker {worker}", 3_600).ids

    with ThreadPoolExecutor(6) as pool:
        got = [id for part in pool.map(work, range(6)) for id in part]
    assert sorted(got) == todo


def test_a_worker_that_slept_past_its_lease_is_refused(store, world):
    comparisons, questions = world.fill(store, 2, 1)
    asleep = store.claim("judge", comparisons, "asleep", -2)  # its time is up already
    awake = store.claim("judge", comparisons[:1], "awake", 3_600)
    assert awake.ids == tuple(comparisons[:1])  # its items return
    late = [world.verdict(questions[0], comparison, 0.1, 0.1) for comparison in comparisons]
    with pytest.raises(StaleLease, match="asleep lost 1 of 2"):
        store.add_verdicts(late, lease=asleep)
    assert len(store.missing_verdicts(comparisons, questions)) == 2  # nothing of the late batch is there
    store.add_verdicts([world.verdict(questions[0], comparisons[0])], lease=awake)
    with pytest.raises(StaleLease):
        store.add_generations([world.response(9)], lease=asleep)
    with pytest.raises(StaleLease):
        store.add_comparisons([world.comparison(1)], lease=asleep)


def test_a_slow_worker_whose_items_nobody_took_may_still_write(store, world):
    comparisons, questions = world.fill(store, 1, 1)
    slow = store.claim("judge", comparisons, "slow", -2)
    store.add_verdicts([world.verdict(questions[0], comparisons[0])], lease=slow)
    assert store.missing_verdicts(comparisons, questions) == []
    store.release(slow)
    with pytest.raises(StaleLease):
        store.add_verdicts([world.verdict(questions[0], comparisons[0])], lease=slow)


def test_who_holds_what_now(store):
    store.claim("review", ids(1, 2), "ana", 3_600)
    store.claim("review", ids(3), "gone", -10)
    store.claim("judge", ids(4), "worker", 3_600)
    assert store.holders("review", ids(1, 2, 3, 4)) == dict.fromkeys(ids(1, 2), "ana")
    assert store.holders("review", ids(2)) == {ids(2)[0]: "ana"}
    assert store.holders("review", []) == {}
    assert store.workers() == ["worker"]  # people are no workers: nobody looks for their process


def test_a_second_window_takes_over_from_the_first(store):
    first = store.claim(REVIEW, ids(1, 2), "ana", 3_600)
    assert store.claim(REVIEW, ids(1), "ana", 3_600).ids == ()  # two windows are two workers, unless it says again
    second = store.claim(REVIEW, ids(1), "ana", 3_600, again=True)
    assert second.ids == tuple(ids(1))
    assert store.claim(REVIEW, ids(1, 2), "ben", 3_600, again=True).ids == ()
    with pytest.raises(StaleLease, match="ana lost 1 of 2"):
        store.renew(first, 10)
    store.release(first)  # gives back what it has left, and not the second's
    assert store.holders(REVIEW, ids(1, 2)) == {ids(1)[0]: "ana"}


def test_a_lease_is_renewed_while_it_is_whole(store):
    short = store.claim(REVIEW, ids(1), "ana", -2)
    longer = store.renew(short, 3_600)
    assert (longer.fence, longer.ids) == (short.fence, short.ids) and longer.expires > short.expires
    assert store.claim(REVIEW, ids(1), "ben", 3_600).ids == ()
    store.release(longer)
    with pytest.raises(StaleLease):
        store.renew(longer, 3_600)
    assert store.holders(REVIEW, ids(1)) == {}


def test_two_windows_at_once_never_both_hold_an_item(store_url, store):
    """Whatever the order, at most one of the leases can write."""
    todo = ids(*range(60))

    def open_window(_):
        with Store.open(store_url) as mine:
            return mine.claim(REVIEW, todo, "ana", 3_600, again=True)

    with ThreadPoolExecutor(4) as pool:
        leases = list(pool.map(open_window, range(4)))
    good = []
    for lease in leases:
        try:
            good.append(store.renew(lease, 3_600))
        except StaleLease:
            continue
    assert len(good) == 1 and good[0].ids == tuple(todo)
