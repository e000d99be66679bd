"""What people ask about the labels of a run: labels and pairs by the page, agreement, disagreements. On both databases,
over stores in which every answer is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from constitution.errors import UserError
from constitution.records import Comparison, Id, Message, Reason, SpotAnswer, Verdict, dialogue_id
from service.actions.data_files import Format, Split
from service.actions.exports import export
from service.queries import judged
from service.queries import labels as labelled
from service.queries.agreement import agreement
from service.queries.disagreements import disagreements
from service.queries.labels import counts, labels
from service.queries.lineage import trace
from service.queries.page import Page
from service.queries.pairs import pair, pairs
from storage.store import Store
from tests.service.reviewed_run import UNREADABLE, Reviewed, build

# What `kind` and `short` say of eight pairs: for the first, the second, even, unreadable, then one against the other.
KIND = [0.99, 0.01, 0.5, UNREADABLE, 0.9, 0.95, 0.05, 0.9]
SHORT = [0.5, 0.5, 0.5, UNREADABLE, 0.1, 0.5, 0.9, 0.5]


@pytest.fixture
def run(store: Store) -> Reviewed:
    return build(store, KIND, SHORT)


def check(store: Store, who: str, pair: Id, answer: SpotAnswer, drawn: str = "random", reason: str = "") -> None:
    store.add_spot_check(who, pair, answer, reason=reason, sampled_by=drawn, key=f"{who} {pair.hex()}")


def all_of(page: Page[labelled.LabelRow], store: Store, **options: object) -> list[str]:
    """The pairs of a page and of all that follow."""
    found = [row.comparison for row in page.items]
    while page.after is not None:
        page = labels(store, after=page.after, **options)  # type: ignore[arg-type]
        found += [row.comparison for row in page.items]
    return found


def hexes(some: Sequence[Id]) -> list[str]:
    return [id.hex() for id in some]


# --- labels and pairs ---


def test_a_label_says_its_state_and_who_is_for_and_against_it(store: Store, run: Reviewed) -> None:
    page = labels(store)
    rows = page.items
    assert page.after is None
    assert [r.comparison for r in rows] == hexes(run.pairs)
    assert [r.state for r in rows] == [
        "decided", "decided", "tied", "unreadable", "decided", "decided", "decided", "decided",
    ]  # fmt: skip
    assert [r.preferred for r in rows] == ["first", "second", None, None, "first", "first", "second", "first"]
    assert rows[4].p == pytest.approx(0.5 + (3 * 0.8 - 1 * 0.8) / (2 * 4))
    assert (rows[4].in_favour, rows[4].against) == (("kind",), ("short",))
    assert (rows[6].in_favour, rows[6].against) == (("kind",), ("short",))
    vote = rows[6].votes[0]
    assert (vote.principle, vote.title, vote.side, vote.weight) == ("kind", "Be kind", "second", 3.0)
    assert vote.strength == pytest.approx(0.9)
    assert (rows[3].p, rows[3].votes) == (0.5, ())
    assert rows[0].prompt == "Ask 0 run"
    assert [r.stage for r in rows] == ["feedback"] * 7 + ["held-out feedback"]
    shown = json.loads(json.dumps(page.as_dict()))
    assert (shown["items"][4]["for"], shown["items"][4]["against"]) == (["kind"], ["short"])


def test_known_pairs_that_the_judge_was_tried_on_are_none_of_the_runs(store: Store, run: Reviewed) -> None:
    """Nobody is asked to review them, and no export has them: their dialogues are no prompts of anybody's."""
    dialogue = (Message("user", "A known pair's question"),)
    store.add_dialogues([dialogue])
    known = Comparison.of(dialogue_id(dialogue), *store.add_answers(["better", "worse"]))
    asked = list(run.questions.values())
    store.add_questions(asked, constitution=run.run.constitution, run=run.run.id, stage="trial.questions")
    store.add_comparisons([known], run=run.run.id, stage="trial")
    store.add_verdicts([Verdict(q.id, known.id, *[10**9 - 1] * 4) for q in asked], run=run.run.id, stage="trial")
    assert judged.newest(store, "").comparisons == tuple(run.pairs)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 100])
def test_pages_hold_every_label_once_in_the_runs_order(store: Store, run: Reviewed, most: int) -> None:
    first = labels(store, most=most)
    assert len(first.items) == min(most, 8)
    assert all_of(first, store, most=most) == hexes(run.pairs)


def test_a_filter_by_state_and_by_principle(store: Store, run: Reviewed, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**options: object) -> list[int]:
        pages = all_of(labels(store, most=2, **options), store, most=2, **options)  # type: ignore[arg-type]
        return [hexes(run.pairs).index(id) for id in pages]

    for scan in (10_000, 3):  # a page that looks at few pairs leads on to the rest
        monkeypatch.setattr(labelled, "SCAN", scan)
        monkeypatch.setattr(labelled, "SLICE", 2)
        assert found(state="decided") == [0, 1, 4, 5, 6, 7]
        assert found(state="tied") == [2]
        assert found(state="unreadable") == [3]
        assert found(principle="short") == [4, 6]
        assert found(principle="kind") == [0, 1, 4, 5, 6, 7]
        assert found(principle="short", state="tied") == []
    with pytest.raises(UserError, match="no state 'open'"):
        labels(store, state="open")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no principle 'calm'"):
        labels(store, principle="calm")
    for cursor in ("x", "0-", "7-" + "0" * 32, "0-" + "0" * 32):
        with pytest.raises(UserError, match="no page of this run"):
            labels(store, after=cursor)


def test_states_are_counted_when_asked(store: Store, run: Reviewed) -> None:
    assert counts(store) == {"decided": 6, "tied": 1, "unreadable": 1}


def test_a_page_computes_its_own_labels_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(store, [0.9] * 60)
    asked: list[int] = []
    whole = store.labels

    def counting(comparisons: Sequence[Id], *rest: object, **named: object) -> object:
        asked.append(len(comparisons))
        return whole(comparisons, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "labels", counting)
    labels(store, most=5)
    pairs(store, most=5)
    check(store, "ada", run.pairs[7], "second")
    agreement(store)
    disagreements(store)
    assert max(asked) <= 6


def test_pairs_come_with_their_texts(store: Store, run: Reviewed) -> None:
    page = pairs(store, state="decided", most=3)
    assert [p.label.comparison for p in page.items] == hexes([run.pairs[n] for n in (0, 1, 4)])
    (stored,) = store.pairs([run.pairs[4]])
    third = page.items[2]
    assert (third.first, third.second, third.dialogue) == (stored.first, stored.second, stored.messages)
    shown = json.loads(json.dumps(page.as_dict()))["items"][2]
    assert (shown["first"], shown["state"], shown["dialogue"][0]["role"]) == (stored.first, "decided", "user")
    following = pairs(store, state="decided", after=page.after)
    assert [p.label.comparison for p in following.items] == hexes([run.pairs[n] for n in (5, 6, 7)])


def test_one_pair_by_its_first_digits(store: Store, run: Reviewed) -> None:
    found = pair(store, run.pairs[7].hex()[:12])
    assert (found.label.comparison, found.label.stage) == (run.pairs[7].hex(), "held-out feedback")
    for name in ("", "zz", "0" * 32):
        with pytest.raises(UserError, match="no pair begins"):
            pair(store, name)
    other = build(store, [0.9], key="other run")
    with pytest.raises(UserError, match="was not asked about"):
        pair(store, other.pairs[0].hex(), run.run.id.hex())


# --- agreement ---


def test_two_people_are_compared_over_the_pairs_that_both_answered(store: Store, run: Reviewed) -> None:
    said: dict[str, list[SpotAnswer]] = {
        "ada": ["first", "second", "tie", "first"],
        "bea": ["first", "second", "first", "skip"],
        "cy": ["first"],
    }
    for who, answers in said.items():
        for id, answer in zip(run.pairs, answers, strict=False):
            check(store, who, id, answer)
    check(store, "dee", run.pairs[7], "first")  # with nobody
    found = agreement(store)
    assert found.reviewers == {"ada": 4, "bea": 3, "cy": 1, "dee": 1}  # a skip is no answer
    two = {b.reviewers: b.figures for b in found.between_reviewers}
    assert set(two) == {("ada", "bea"), ("ada", "cy"), ("bea", "cy")}
    assert (two["ada", "bea"]["count"], two["ada", "bea"]["left_out"]) == (3, 1)
    assert two["ada", "bea"]["raw"]["mean"] == pytest.approx(2 / 3)
    # By hand: the second agreed 1 of 1 and the first 1 of 1, the tie was met by a first. Shares of both, over 6
    # answers: first 1/2, second 1/3, tie 1/6; e(kappa) = 1/3 * 2/3 + 1/3 * 1/3 = 1/3.
    assert two["ada", "bea"]["kappa"]["mean"] == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    chance = sum(share * (1 - share) for share in (1 / 2, 1 / 3, 1 / 6)) / 2
    assert two["ada", "bea"]["ac1"]["mean"] == pytest.approx((2 / 3 - chance) / (1 - chance))
    assert two["bea", "cy"]["raw"]["mean"] == 1
    shown = json.loads(json.dumps(found.as_dict()))
    assert shown["between_reviewers"][0]["reviewers"] == ["ada", "bea"]
    assert set(shown) == {"run", "reviewers", "overall", "by_principle", "others", "between_reviewers"}


def test_agreement_is_of_the_runs_own_pairs(store: Store, run: Reviewed) -> None:
    other = build(store, [0.9, 0.9], key="other run")
    check(store, "ada", run.pairs[0], "first")
    check(store, "ada", other.pairs[0], "second")
    assert agreement(store, run.run.id.hex()).overall["raw"]["mean"] == 1
    assert agreement(store, other.run.id.hex()).overall["raw"]["mean"] == 0


# --- disagreements ---


def test_disagreements_are_of_people_with_the_judge_or_with_each_other(store: Store, run: Reviewed) -> None:
    zero, one, two, three, four, five, six, _ = run.pairs
    check(store, "ada", zero, "first")  # as the judge
    check(store, "ada", one, "first", reason="warmer")  # not as the judge
    check(store, "ada", two, "skip")  # says nothing
    check(store, "ada", three, "first")  # the judge says nothing, and nobody else
    check(store, "ada", four, "first")
    check(store, "bea", four, "tie", drawn="uncertain")
    check(store, "ada", five, "first")
    check(store, "bea", five, "skip")
    check(store, "bea", six, "second")  # as the judge
    check(store, "bea", three, "second")  # two people differ where the judge says nothing
    found = disagreements(store)
    assert [d.pair.label.comparison for d in found.items] == hexes([three, four, one])  # answered last comes first
    first, second, third = found.items
    assert (first.judge, first.deciding, [a.differs for a in first.answers]) == (None, (), [False, False])
    assert (second.judge, second.deciding) == ("first", ("kind",))
    assert [(a.reviewer, a.answer, a.differs, a.sampled_by) for a in second.answers] == [
        ("ada", "first", False, "random"),
        ("bea", "tie", True, "uncertain"),
    ]
    assert (third.judge, third.answers[0].reason, third.answers[0].differs) == ("second", "warmer", True)
    (stored,) = store.pairs([one])
    shown = json.loads(json.dumps(found.as_dict()))["items"][2]
    assert (shown["first"], shown["judge"], shown["deciding"]) == (stored.first, "second", ["kind"])
    assert shown["answers"][0]["answer"] == "first"

    assert [d.pair.label.comparison for d in disagreements(store, who="ada").items] == hexes([three, four, one])
    assert [d.pair.label.comparison for d in disagreements(store, who="bea").items] == hexes([three, four])
    assert [d.pair.label.comparison for d in disagreements(store, who="cy").items] == []
    by_kind = disagreements(store, principle="kind").items
    assert [d.pair.label.comparison for d in by_kind] == hexes([four, one])
    assert disagreements(store, principle="short").items == ()  # it is against, where it votes
    with pytest.raises(UserError, match="no principle 'calm'"):
        disagreements(store, principle="calm")


def test_disagreements_come_by_the_page_and_go_when_they_are_undone(store: Store, run: Reviewed) -> None:
    for id in run.pairs:
        check(store, "ada", id, "tie")
    differing = hexes([run.pairs[n] for n in (7, 6, 5, 4, 1, 0)])  # all but the tie and the unreadable one
    found, after = [], None
    for _ in range(3):
        page = disagreements(store, most=2, after=after)
        found += [d.pair.label.comparison for d in page.items]
        after = page.after
    assert (found, after) == (differing, None)
    last = store.spot_checks(comparisons=[run.pairs[7]])[0]
    store.undo_spot_check("ada", last.event, key="undo")
    assert [d.pair.label.comparison for d in disagreements(store).items] == differing[1:]


def test_a_run_without_labels_says_so(store: Store) -> None:
    for query in (labels, pairs, counts, agreement, disagreements):
        with pytest.raises(UserError, match="nothing was judged yet"):
            query(store)
    run = store.start_run("r", "respond", {"settings": {}})
    with pytest.raises(UserError, match="has judged nothing yet"):
        judged.of(store, run)


# --- what the judge wrote before it answered ---


def test_reasons_are_shown_to_people_and_are_in_no_file_that_is_trained_on(
    store: Store, run: Reviewed, tmp_path: Path
) -> None:
    asked, wrote = run.questions["kind"].id, "It is warmer. \x00 \ud800 [Question] B"
    store.add_verdicts([], reasons=[Reason(asked, id, shown, wrote) for id in run.pairs for shown in (1, 2)])
    check(store, "ada", run.pairs[1], "first")
    (item,) = disagreements(store).items
    assert [(r.principles, r.shown, r.text) for r in item.pair.reasons] == [(("kind",), n, wrote) for n in (1, 2)]
    assert pair(store, run.pairs[0].hex()).as_dict()["reasons"][1]["text"] == wrote
    verdict = next(n for n in trace(store, f"comparison:{run.pairs[0].hex()}").nodes if n.title == "verdict on kind")
    assert verdict.fact("reasons, the first shown as B") == wrote
    for format in (Format.preference, Format.unpaired):
        written = tmp_path / f"{format}.jsonl"
        exported = export(store, written, run.run.id.hex(), format, Split.train)
        assert exported.rows and "warmer" not in written.read_text()
