"""What `collect` takes, and what it must leave."""

from __future__ import annotations

import pytest

from constitution.records import Checkpoint, make_id

OLD = -5  # a grace period that has been over for seconds


@pytest.fixture
def archived(store, world):
    """A run that was archived: 3 comparisons, 2 questions under version v1, every verdict, one chain."""
    comparisons, questions = world.fill(store, 3, 2)
    run = store.start_run("key", "improve", {}, "v1").id
    store.add_questions([world.question(number) for number in range(2)], constitution="v1", run=run, stage="questions")
    store.add_members(run, "compare", comparisons)
    revision = world.generation(world.prompt(0), 9, "revised", parent=world.response(0))
    store.add_generations([revision], run=run, stage="revise")
    store.add_verdicts([world.verdict(q, c) for c in comparisons for q in questions], run=run)
    assert store.collect(OLD)["verdict"] == 0  # the run is not archived yet
    store.archive_run(run)
    return run, comparisons, questions, revision


def test_all_of_an_archived_run_goes(store, world, archived):
    counts = store.collect(OLD)
    assert counts == {
        "claim": 0,
        "member": 6,
        "comparison": 3,
        "question": 2,
        "clause": 2,
        "verdict": 6,
        "reason": 0,
        "origin": 6,
        "generation": 7,
        "answer": 7,
    }
    assert set(store.collect(OLD).values()) == {0}
    assert len(store.prompts()) == 3 and len(store.runs()) == 1


def test_what_is_younger_than_the_grace_period_stays(store, archived):
    _, comparisons, questions, revision = archived
    counts = store.collect(3_600)
    assert counts.pop("member") == 6
    assert set(counts.values()) == {0}
    assert store.missing_verdicts(comparisons, questions) == []
    assert store.generations([revision.id]) == [revision]


def test_what_another_run_uses_stays_with_all_it_stands_on(store, world, archived):
    _, comparisons, questions, revision = archived
    other = store.start_run("another key", "improve", {}, "v2").id
    store.add_members(other, "compare", comparisons[:1])
    store.add_members(other, "questions", questions[:1])
    store.add_members(other, "revise", [revision.id])
    counts = store.collect(OLD)
    assert (counts["comparison"], counts["question"], counts["verdict"]) == (2, 1, 5)
    assert store.missing_verdicts(comparisons[:1], questions[:1]) == []
    assert store.generations([revision.id, revision.parent]) == [revision, world.response(0)]
    assert store.pairs(comparisons[:1])


def test_a_comparison_that_a_person_judged_stays(store, archived):
    _, comparisons, *_ = archived
    store.add_spot_check("ana", comparisons[2], "tie", sampled_by="random", key="1")
    assert store.collect(OLD)["comparison"] == 2
    assert store.pairs(comparisons[2:])


def test_the_verdicts_of_a_ratified_version_stay_so_that_going_back_costs_nothing(store, archived):
    _, comparisons, questions, _ = archived
    store.put_constitution("v1", "text")
    store.ratify("v1", "ana", "", "1")
    other = store.start_run("another key", "improve", {}, "v2").id
    store.add_members(other, "compare", comparisons)
    counts = store.collect(OLD)
    assert (counts["question"], counts["verdict"], counts["clause"]) == (0, 0, 0)
    assert store.missing_verdicts(comparisons, questions) == []


def test_a_run_that_made_a_checkpoint_stays(store, archived):
    run, *_ = archived
    store.add_checkpoint(Checkpoint(make_id("job"), "policy", "dpo", "/m", "d", "base", "data", "v1"), run=run)
    assert set(store.collect(OLD).values()) == {0}


def test_what_a_worker_holds_stays(store, archived):
    _, comparisons, *_ = archived
    lease = store.claim("judge", comparisons[:1], "worker", 3_600)
    assert store.collect(OLD)["comparison"] == 2
    store.release(lease)
    store.claim("judge", comparisons[:1], "dead", -10)
    counts = store.collect(OLD)
    assert (counts["claim"], counts["comparison"]) == (1, 1)
