"""Review as a page and the command line share it: who is shown which pair, what is kept, what is taken back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from constitution.errors import UserError
from service.actions import review
from service.actions.review_records import Item
from service.queries import judged
from storage.claims import REVIEW
from storage.store import Store
from tests.service.reviewed_run import UNREADABLE, Reviewed, at_random, build


@pytest.fixture
def run(store: Store) -> Reviewed:
    return build(store, at_random(10))


def shown(store: Store, who: str, sample: str = "random") -> Item:
    item = review.next_item(store, "", who, sample)
    assert item is not None
    return item


def say(store: Store, who: str, key: str, choice: str = "a", sample: str = "random") -> review.Answered:
    return review.answer(store, who, shown(store, who, sample).token, key, choice)


def queue_of(store: Store, who: str, sample: str = "random") -> Iterator[str]:
    """The pairs that a reviewer is shown, each skipped."""
    while (item := review.next_item(store, "", who, sample)) is not None:
        yield item.comparison
        review.answer(store, who, item.token, f"{sample}{item.comparison}", "skip")


def lapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a hold is over as soon as it is given."""
    monkeypatch.setattr(review, "HELD_SECONDS", -2)


def test_a_reload_shows_the_same_pair_and_nobody_else_is_shown_it(store: Store, run: Reviewed) -> None:
    first = shown(store, "ada")
    assert shown(store, "ada").comparison == first.comparison
    others = [shown(store, f"reviewer {n}").comparison for n in range(9)]
    assert len({first.comparison, *others}) == 10
    assert review.next_item(store, "", "late") is None  # all are held
    assert review.left(store, "", "late") == 10
    review.release(store, "reviewer 0", shown(store, "reviewer 0").token)
    assert shown(store, "late").comparison == others[0]


def test_what_one_holds_comes_before_what_became_free(store: Store, run: Reviewed) -> None:
    first = shown(store, "ada").comparison
    review.release(store, "ada", shown(store, "ada").token)
    lease = store.claim(REVIEW, [bytes.fromhex(first)], "bea", 60)
    second = shown(store, "ada").comparison
    store.release(lease)
    assert shown(store, "ada").comparison == second != first


def test_a_pair_is_shown_blind_with_its_principles_and_its_place(store: Store, run: Reviewed) -> None:
    item = shown(store, "ada")
    (pair,) = store.pairs([bytes.fromhex(item.comparison)])
    assert {item.a, item.b} == {pair.first, pair.second}
    assert item.dialogue == pair.messages
    assert [(p.principle, p.title, p.question) for p in item.principles] == [
        ("kind", "Be kind", "Which is kinder?"),
        ("short", "Be short", "Which is shorter?"),
    ]
    assert (item.place, item.answered, item.left) == (1, 0, 10)
    whole = item.as_dict()
    assert json.loads(json.dumps(whole))["reviewer"] == "ada"
    words = {"label", "state", "p", "p1", "verdict", "votes", "preferred", "judge", "first", "second"}
    assert not words & set(whole)
    say(store, "ada", "1")
    assert (shown(store, "ada").place, shown(store, "ada").left) == (2, 9)


def test_sides_are_a_reviewers_own_and_an_answer_is_about_the_right_one(store: Store, run: Reviewed) -> None:
    left = Counter()
    for who in ("ada", "bea", "cy"):
        for _ in range(10):
            item = shown(store, who)
            (pair,) = store.pairs([bytes.fromhex(item.comparison)])
            kept = review.answer(store, who, item.token, item.comparison, "b")
            (check,) = store.spot_checks(comparisons=[pair.comparison.id], reviewer=who)
            assert check.answer == ("first" if item.b == pair.first else "second")
            assert (kept.choice, kept.event, kept.sample) == ("b", check.event, "random")
            left[who, item.b == pair.first] += 1
    assert len(left) == 6  # for each, now this side and now that


def test_a_key_that_comes_twice_is_one_answer_and_another_under_it_is_refused(store: Store, run: Reviewed) -> None:
    item = shown(store, "ada")
    first = review.answer(store, "ada", item.token, "form 1", "a", reason="because ü")
    assert review.answer(store, "ada", item.token, "form 1", "a", reason="because ü") == first
    with pytest.raises(UserError, match="this form was sent before, with another answer"):
        review.answer(store, "ada", item.token, "form 1", "b")
    with pytest.raises(UserError, match="this form was sent before, with another answer"):
        review.answer(store, "ada", shown(store, "ada").token, "form 1", "a", reason="because ü")
    other = shown(store, "bea")
    assert review.answer(store, "bea", other.token, "form 1", "tie").reviewer == "bea"  # her keys are her own
    assert len(store.spot_checks()) == 2
    assert [a.reason for a in review.answers(store, "", "ada")] == ["because ü"]


def test_a_pair_that_went_to_somebody_else_takes_no_late_answer(
    store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    lapse(monkeypatch)
    early, kept = shown(store, "ada"), say(store, "ada", "kept")
    late = shown(store, "ada")
    slow = review.answer(store, "ada", late.token, "slow", "a")  # past its time, but nobody took it
    assert slow.comparison == late.comparison != kept.comparison == early.comparison
    late = shown(store, "ada")
    monkeypatch.undo()
    lease = store.claim(REVIEW, [bytes.fromhex(late.comparison)], "bea", 60)
    assert lease.ids
    with pytest.raises(UserError, match=r"no longer yours.*Ask for the next pair"):
        review.answer(store, "ada", late.token, "late", "a")
    with pytest.raises(UserError, match="no longer yours"):
        review.keep(store, "ada", late.token)
    assert len(store.spot_checks()) == 2
    assert shown(store, "ada").comparison != late.comparison
    store.release(lease)
    with pytest.raises(UserError, match="no longer yours"):  # given back: it is shown again before it is answered
        review.answer(store, "ada", late.token, "late", "a")


def test_a_stored_key_is_good_whatever_became_of_the_pair(store: Store, run: Reviewed) -> None:
    item = shown(store, "ada")
    first = review.answer(store, "ada", item.token, "1", "a")
    store.claim(REVIEW, [bytes.fromhex(item.comparison)], "bea", 60)
    assert review.answer(store, "ada", item.token, "1", "a") == first


def test_two_windows_of_one_reviewer_hold_one_pair_and_give_one_answer(store: Store, run: Reviewed) -> None:
    old, new = shown(store, "ada"), shown(store, "ada")
    review.keep(store, "ada", old.token)
    review.release(store, "ada", old.token)  # closed: the other window still shows it
    assert shown(store, "bea").comparison != old.comparison
    review.answer(store, "ada", old.token, "old", "a")
    with pytest.raises(UserError, match="no longer yours"):
        review.answer(store, "ada", new.token, "new", "b")
    assert [a.choice for a in review.answers(store, "", "ada")] == ["a"]


def test_what_another_window_just_answered_is_not_shown(
    store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, holding = shown(store, "ada"), store.holding

    def meanwhile(stage: str) -> dict[bytes, tuple[str, bytes]]:
        review.answer(store, "ada", item.token, "1", "a")
        return holding(stage)

    monkeypatch.setattr(store, "holding", meanwhile)
    following = shown(store, "ada")
    assert following.comparison != item.comparison
    monkeypatch.undo()
    assert store.holders(REVIEW, run.pairs) == {bytes.fromhex(following.comparison): "ada"}


def test_keeping_holds_a_pair_beyond_its_time(store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        lapse(patch)
        item = shown(store, "ada")
    id = bytes.fromhex(item.comparison)
    assert store.holders(REVIEW, [id]) == {}
    review.keep(store, "ada", item.token)
    assert store.holders(REVIEW, [id]) == {id: "ada"}


def test_a_token_is_of_whom_it_was_made_for(store: Store, run: Reviewed) -> None:
    item = shown(store, "ada")
    with pytest.raises(UserError, match="not shown to bea"):
        review.answer(store, "bea", item.token, "1", "a")
    for token in ("", "random", item.token[:-1], item.token.replace("random", "uncertain"), "a.b.c.d"):
        with pytest.raises(UserError, match="ask for the next pair"):
            review.answer(store, "ada", token, "1", "a")
    with pytest.raises(UserError, match="one of a, b, tie, skip"):
        review.answer(store, "ada", item.token, "1", "first")
    with pytest.raises(UserError, match="key of its own"):
        review.answer(store, "ada", item.token, " ", "a")
    with pytest.raises(UserError, match="who reviews"):
        review.next_item(store, "", " ")
    with pytest.raises(UserError, match="random, uncertain, flips"):
        review.next_item(store, "", "ada", "hardest")
    assert store.spot_checks() == []


def test_undo_goes_back_as_far_as_one_likes_and_only_over_ones_own(store: Store, run: Reviewed) -> None:
    theirs = say(store, "bea", "1")
    mine = [say(store, "ada", str(n), sample="random" if n else "uncertain") for n in range(3)]
    assert say(store, "bea", "2").comparison
    for steps, taken in enumerate(reversed(mine)):
        item = review.undo(store, "", "ada", f"undo {steps}")
        assert item is not None
        assert (item.comparison, item.sample) == (taken.comparison, taken.sample)
        again = review.undo(store, "", "ada", f"undo {steps}")  # the same click, sent twice
        assert again is not None and again.comparison == taken.comparison
        assert len(review.answers(store, "", "ada")) == 2 - steps
    with pytest.raises(UserError, match=r"no answer about run .* to undo"):
        review.undo(store, "", "ada", "undo 3")
    assert [a.event for a in review.answers(store, "", "bea")][-1] == theirs.event
    assert len(review.answers(store, "", "bea")) == 2
    assert len(store.events("spot_check", "spot_check_undone")) == 5 + 3  # the history keeps all


def test_an_undo_sent_twice_at_once_takes_one_answer_back_and_shows_it(
    store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        item = review.next_item(store, "", "ada")
        assert item is not None
        review.answer(store, "ada", item.token, f"answer {number}", "a")
    last = review.undo(store, "", "ada", "u")
    really = review._taken_back
    seen: list[object] = []  # the second click looks before the first is written
    monkeypatch.setattr(
        review,
        "_taken_back",
        lambda store, key: really(store, key) if seen else seen.append(key),  # type: ignore[func-returns-value]
    )
    again = review.undo(store, "", "ada", "u")
    assert last is not None and again is not None and again.comparison == last.comparison
    assert len(store.spot_checks()) == 1 and len(store.events("spot_check_undone")) == 1


def test_what_was_undone_is_shown_next_and_answered_anew(store: Store, run: Reviewed) -> None:
    first, second = say(store, "ada", "1"), say(store, "ada", "2", "a")
    waiting = shown(store, "ada")
    item = review.undo(store, "", "ada", "u")
    assert item is not None and item.comparison == second.comparison
    assert shown(store, "ada").comparison == second.comparison  # a reload
    review.answer(store, "ada", item.token, "2, anew", "b")
    assert shown(store, "ada").comparison == waiting.comparison
    assert [a.choice for a in review.answers(store, "", "ada")] == ["b", "a"]
    assert review.undo(store, "", "ada", "u") is None  # the first click again: the new answer stays
    assert [a.comparison for a in review.answers(store, "", "ada")] == [second.comparison, first.comparison]


def test_a_pair_that_somebody_else_is_shown_is_undone_and_comes_back_later(store: Store, run: Reviewed) -> None:
    mine = say(store, "ada", "1")
    lease = store.claim(REVIEW, [bytes.fromhex(mine.comparison)], "bea", 60)
    assert review.undo(store, "", "ada", "u") is None
    assert review.answers(store, "", "ada") == []
    assert shown(store, "ada").comparison != mine.comparison
    store.release(lease)
    assert mine.comparison in set(queue_of(store, "ada"))


def test_each_draw_shows_its_pairs_in_its_order(store: Store) -> None:
    flipped = {3: (0.9, 0.1), 5: (0.9, 0.1)}
    kind = [0.99, 0.98, UNREADABLE, flipped[3], 0.03, flipped[5], 0.04, 0.05, 0.94, 0.95]
    short = [0.5] * 5 + [(0.9, 0.1)] + [0.5] * 4
    run = build(store, kind, short)
    pairs = [pair.hex() for pair in run.pairs]
    assert list(queue_of(store, "ada", "flips")) == [pairs[5], pairs[3]]  # two principles flip, then one
    assert not {pairs[3], pairs[5]} & set(queue_of(store, "ada", "uncertain"))  # answered, whatever the draw
    near = list(queue_of(store, "bea", "uncertain"))
    assert set(near) == set(pairs) - {pairs[2]}  # what cannot be read is not uncertain
    assert set(near[:2]) == {pairs[3], pairs[5]}  # tied at even
    assert near[2] == pairs[8] and near[-1] == pairs[0]
    assert set(queue_of(store, "cy")) == set(pairs)
    assert Counter(c.sampled_by for c in store.spot_checks(reviewer="ada")) == {"flips": 2, "uncertain": 7}


def test_the_hard_pairs_are_looked_for_in_a_draw_of_bounded_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.queries import queue

    monkeypatch.setattr(queue, "DRAWN", 6)
    build(store, at_random(40))
    about = judged.newest(store, "")
    ada, bea = (set(queue.order(about, who, "uncertain")) for who in ("ada", "bea"))
    assert len(ada) == len(bea) == 6 and ada != bea
    assert len(queue.order(about, "ada", "random")) == 40


def test_the_judge_is_told_after_the_answer_alone(store: Store) -> None:
    build(store, [0.99, 0.01, 0.5, UNREADABLE])
    seen = []
    while (item := review.next_item(store, "", "ada")) is not None:
        with pytest.raises(UserError, match="after your answer"):
            review.judge_says(store, "", "ada", item.comparison)
        (pair,) = store.pairs([bytes.fromhex(item.comparison)])
        review.answer(store, "ada", item.token, item.comparison, "tie")
        said = review.judge_says(store, "", "ada", item.comparison)
        seen.append({"a": item.a, "b": item.b}.get(said, said).replace(pair.first, "first"))
    assert Counter("first" if s == "first" else s if s in ("tied", "unreadable") else "second" for s in seen) == {
        "first": 1,
        "second": 1,
        "tied": 1,
        "unreadable": 1,
    }


def test_the_newest_run_that_judged_is_found_without_reading_runs(
    store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        store.start_run(f"later {number}", "respond", {"settings": {}})
    monkeypatch.setattr(store, "runs", None)
    about = judged.newest(store, "")
    assert about.run.id == run.run.id
    assert about.comparisons == tuple(run.pairs)
