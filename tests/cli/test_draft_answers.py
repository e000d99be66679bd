"""`precept constitution amend --try`: the draft and what is in force, each in the system prompt, nothing ratified."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPT = """\
rules:
  - {in: all, match: 'Write the reply that is warmer', text: "A warm answer [red]."}
  - {in: all, match: 'Write the reply that is kinder|Which is kinder', text: "A kind answer."}
  - {text: An answer.}
"""


@pytest.fixture
def draft(project: Path) -> Path:
    (project / "script.yaml").write_text(SCRIPT)
    text = (project / "principles.yaml").read_text()
    (project / "draft.yaml").write_text(
        text.replace("comparison: Which is kinder?", "comparison: Which reply is warmer?")
    )
    return project / "draft.yaml"


def test_today_s_answers_beside_the_draft_s(draft, store, labelled, precept) -> None:
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    outcome = precept("constitution", "amend", draft, "--try", "--n", 2, "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    found = outcome.json
    assert found["in_force"] == labelled.run.constitution and found["same"] == 0
    assert [(a["today"]["text"][:6], a["draft"]["text"]) for a in found["answers"]] == [
        ("A kind", "A warm answer [red].")
    ] * 2
    assert found["calls"]["generated"] == 4
    assert len(store.amendments()) == 1
    again = precept("constitution", "amend", draft, "--try", "--n", 2, "--json", "--quiet").json
    assert again["answers"] == found["answers"] and again["calls"]["generated"] == 0


def test_the_look_is_no_run_whose_labels_are_looked_at(draft, store, labelled, precept) -> None:
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    before = precept("constitution", "lint", "--json").json["comparisons"]
    assert precept("constitution", "amend", draft, "--try", "--quiet").code == 0
    assert precept("constitution", "lint", "--json").json["comparisons"] == before
    assert precept("constitution", "amend", draft, "--json").json["labels"]["total"] == before


@pytest.mark.parametrize("columns", ["120", "60"])
def test_on_a_wide_screen_and_a_narrow_one(draft, store, labelled, precept, monkeypatch, columns) -> None:
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    monkeypatch.setenv("COLUMNS", columns)
    shown = precept("constitution", "amend", draft, "--try", "--n", 1, "--quiet").out
    assert "A warm answer [red]." in shown and "nothing is trained or ratified" in shown.replace("\n", " ")
    assert ("today" in shown.splitlines()[5]) or "today" in shown
    both = [line for line in shown.splitlines() if "A kind answer" in line and "A warm answer" in line]
    assert bool(both) is (columns == "120")


def test_with_nothing_in_force_today_has_no_constitution(draft, store, precept) -> None:
    found = precept("constitution", "amend", draft, "--try", "--n", 1, "--json", "--quiet").json
    assert found["in_force"] is None and found["answers"][0]["today"]["text"] == "An answer."
    assert store.ratified() is None


def test_what_is_refused(draft, store, labelled, precept) -> None:
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    same = precept("constitution", "amend", "principles.yaml", "--try")
    assert same.code == 2 and "says what is in force" in same.err
    both = precept("constitution", "amend", draft, "--try", "--ratify")
    assert both.code == 2 and "--try only asks" in both.err
