"""What a server keeps between two answers, and what else an answer may say: neither, the principle that decided, a
rewrite, and what was said of one principle alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.errors import UserError
from service.actions import exports, review, review_desk
from service.actions.annotated_pairs import export
from service.actions.data_files import Format, Split
from service.actions.exports import collect
from service.actions.review_desk import Desk
from service.actions.review_records import Item
from service.queries import queue
from service.queries.agreement import agreement
from service.queries.disagreements import disagreements
from storage.store import Store
from tests.service.reviewed_run import Reviewed, at_random, build


@pytest.fixture
def run(store: Store) -> Reviewed:
    return build(store, at_random(10))


def shown(store: Store, desk: Desk | None = None, **options: str) -> Item:
    item = review.next_item(store, "", "ada", desk=desk, **options)  # type: ignore[arg-type]
    assert item is not None
    return item


def test_neither_is_no_preference_and_keeps_what_decided_and_a_rewrite(
    store: Store, run: Reviewed, tmp_path: Path
) -> None:
    item = shown(store)
    said = review.answer(
        store, "ada", item.token, "1", "neither", "both preach", principle="kind", rewrite=" A kind answer.\n"
    )
    assert (said.choice, said.principle, said.rewrite) == ("neither", "kind", "A kind answer.")
    assert review.answers(store, "", "ada") == [said]
    figures = agreement(store)
    assert (figures.overall["count"], figures.overall["left_out"], figures.reviewers) == (0, 1, {"ada": 1})
    assert disagreements(store).items == ()  # no judge can say so
    export(store, tmp_path / "pairs.json", split=Split.all)
    assert '"no_pref_reason": "neither"' in (tmp_path / "pairs.json").read_text()
    again = shown(store)
    with pytest.raises(UserError, match="no principle 'calm'"):
        review.answer(store, "ada", again.token, "2", "a", principle="calm")
    with pytest.raises(UserError, match="at most 100,000 characters"):
        review.answer(store, "ada", again.token, "2", "a", reason="x" * 100_001)


def test_one_principle_is_asked_about_alone(store: Store, run: Reviewed) -> None:
    item = shown(store, asked="short")
    assert (item.asked, item.question) == ("short", "Which is shorter?")
    review.answer(store, "ada", item.token, "1", "a")
    assert shown(store, asked="short").comparison != item.comparison
    assert review.left(store, "", "ada", asked="short") == 9
    assert review.left(store, "", "ada") == review.left(store, "", "ada", asked="kind") == 10
    assert store.spot_checks() == [] and len(store.spot_checks(asked="short")) == 1
    with pytest.raises(UserError, match="no answer about run"):
        review.undo(store, "", "ada", "undo")
    back = review.undo(store, "", "ada", "undo", asked="short")
    assert back is not None and (back.comparison, back.asked) == (item.comparison, "short")
    again = review.undone(store, "", "ada", "undo")
    assert again is not None and again.comparison == item.comparison
    assert review.undone(store, "", "bea", "undo") is None
    with pytest.raises(UserError, match="no principle 'calm'"):
        review.next_item(store, "", "ada", asked="calm")
    with pytest.raises(UserError, match="ask for the next pair"):
        review.answer(store, "ada", item.token.rpartition(".")[0], "2", "a")  # as if the whole had been asked about


def test_a_pair_that_is_held_in_one_queue_does_not_count_as_drawn_by_another(store: Store) -> None:
    run = build(store, [(0.9, 0.1), *at_random(30)])
    flipped = shown(store, sample="flips")
    assert flipped.comparison == run.pairs[0].hex()
    order = queue.order(review.judged.newest(store, ""), "ada", "random")
    assert shown(store).comparison == order[0].hex()
    assert shown(store, sample="flips").comparison == flipped.comparison  # a reload


def test_a_desk_makes_a_queue_once_and_knows_what_was_answered_elsewhere(
    store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    really = queue.order

    def order(*given: object) -> object:
        made.append(str(given[1]))
        return really(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "order", order)
    desk, other = Desk(store), Desk(store)
    seen = []
    for number in range(6):
        item = review.next_item(store, desk.about(""), "ada", desk=(desk, other)[number % 2])
        assert item is not None and (item.answered, item.left) == (number, 10 - number)
        seen.append(item.comparison)
        review.answer(store, "ada", item.token, str(number), "a")
    assert len(set(seen)) == 6 and made == ["ada", "ada"]  # once a desk
    assert review.progress(store, desk.about(""), "ada", desk=desk).answered == 6
    back = review.undo(store, desk.about(""), "ada", "u", desk=other)
    assert back is not None and back.comparison == seen[-1]
    told = review.progress(store, desk.about(""), "ada", desk=desk)
    assert (told.answered, told.left, told.today) == (5, 5, 7)
    assert review.progress(store, desk.about(""), "bea", desk=desk).as_dict() == {
        "answered": 0, "left": 10, "today": 0, "seconds": 0,
    }  # fmt: skip


def test_the_time_at_it_leaves_pauses_out() -> None:
    done = review_desk.Done(set(), 0, "", [0.0, 60.0, 100.0, 5000.0, 5030.0])
    assert done.seconds == 60 + 40 + 30


def test_a_rewrite_is_exported_as_a_persons_and_only_where_it_stands(
    store: Store, run: Reviewed, tmp_path: Path
) -> None:
    for number in range(2):
        item = shown(store)
        review.answer(store, "ada", item.token, str(number), "neither", rewrite=f"Better {number}.")
    item = shown(store)
    review.answer(store, "ada", item.token, "2", "a")
    found = collect(store, "", Format.prompt_completion, Split.all)
    assert sorted(row["completion"][0]["content"] for row in found.rows) == ["Better 0.", "Better 1."]
    assert {row["written_by"] for row in found.rows} == {"person"}
    review.undo(store, "", "ada", "u1")
    review.undo(store, "", "ada", "u2")
    for name in ("rows.jsonl", "rows.parquet", "rows.csv"):
        assert exports.export(store, tmp_path / name, "", Format.prompt_completion, Split.all).rows == 1
