"""`precept store collect`: what it would delete, what it deletes, and which runs it archives first."""

from __future__ import annotations

from storage.store import Store
from tests.cli.test_checkpoints import make_checkpoint


def test_a_dry_run_counts_and_changes_nothing(store: Store, labelled, precept) -> None:
    store.finish_run(labelled.run.id, "finished", result={})
    store.archive_run(labelled.run.id)
    found = precept("store", "collect", "--days", "0", "--dry-run", "--json").json
    assert found["dry_run"] and found["deleted"]["member"] > 0
    assert store.stage_members(labelled.run.id, "feedback")
    shown = precept("store", "collect", "--days", "0", "--dry-run").out
    assert "would be deleted" in shown and "nothing was changed" in shown
    done = precept("store", "collect", "--days", "0", "--json").json
    assert done["deleted"]["member"] == found["deleted"]["member"] and not done["dry_run"]
    assert store.stage_members(labelled.run.id, "feedback") == []
    assert store.run(labelled.run.id).status == "finished"  # the run itself stays


def test_runs_are_archived_only_when_asked_and_old(store: Store, labelled, precept) -> None:
    store.finish_run(labelled.run.id, "finished", result={})
    kept = precept("store", "collect", "--days", "0", "--json").json
    assert kept["archived"] == [] and store.stage_members(labelled.run.id, "feedback")
    assert precept("store", "collect", "--days", "1", "--archive", "--json").json["archived"] == []
    would = precept("store", "collect", "--days", "0", "--archive", "--dry-run", "--json").json
    assert would["archived"] == [labelled.run.id.hex()]
    assert store.run(labelled.run.id).archived is None
    assert "would be archived" in precept("store", "collect", "--days", "0", "--archive", "--dry-run").out
    done = precept("store", "collect", "--days", "0", "--archive", "--json").json
    assert done["archived"] == [labelled.run.id.hex()] and done["deleted"]["member"] > 0
    assert store.run(labelled.run.id).archived is not None


def test_a_run_whose_model_is_promoted_is_not_archived(store: Store, labelled, precept) -> None:
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    store.finish_run(labelled.run.id, "finished", result={})
    made = make_checkpoint(store, "tuned", labelled.run.constitution, labelled.run.id)
    store.promote(made, "ada", "good", key="p")
    assert precept("store", "collect", "--days", "0", "--archive", "--json").json["archived"] == []
