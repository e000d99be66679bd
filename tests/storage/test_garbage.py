"""What `collect` takes, and what it must leave."""

from __future__ import annotations

import pytest

from constitution.records import Checkpoint, make_id
from storage.runs import now

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


def test_a_dry_run_counts_and_takes_nothing(store, archived):
    _, comparisons, questions, revision = archived
    counts = store.collect(OLD, dry_run=True)
    assert (counts["member"], counts["comparison"], counts["verdict"], counts["generation"]) == (6, 3, 6, 7)
    assert store.missing_verdicts(comparisons, questions) == []
    assert store.generations([revision.id]) == [revision]
    assert store.collect(OLD, dry_run=True) == counts == store.collect(OLD)
    assert set(store.collect(OLD, dry_run=True).values()) == {0}


def test_a_run_that_is_not_archived_any_more_is_kept(store, archived):
    run, comparisons, questions, _ = archived
    assert store.run(run).archived is not None
    store.unarchive_run(run)
    assert store.run(run).archived is None
    assert store.collect(OLD)["member"] == 0
    assert store.missing_verdicts(comparisons, questions) == []


def test_what_may_be_archived(store):
    def a_run(key, status=None, made=()):
        run = store.start_run(key, "improve", {}).id
        for name in made:
            digest = make_id("weights", name=name).hex() * 2
            checkpoint = Checkpoint(make_id("job", name=name), "policy", "dpo", f"/m/{name}", digest, "base", "data")
            store.add_checkpoint(checkpoint, run=run)
        if status:
            store.finish_run(run, status)
        return run

    plain, failed = a_run("plain", "finished"), a_run("failed", "failed")
    a_run("running"), a_run("stopped", "stopped")
    tried = a_run("tried", "finished", ["never promoted"])
    a_run("once", "finished", ["promoted once"]), a_run("now", "finished", ["one more", "promoted now"])
    for number, name in enumerate(["once", "now"]):
        store.promote(store.checkpoint(f"promoted {name}"), "ana", "", str(number))
    later = now()
    a_run("young", "finished")
    done = a_run("archived", "finished")
    store.archive_run(done)
    assert [run.id for run in store.archivable(later)] == [plain, failed, tried]
    store.archive_run(plain)
    assert [run.id for run in store.archivable(later)] == [failed, tried]
    assert store.archivable("2000") == []
