"""`precept constitution stress` on a scripted model: made prompts, and stored pairs where it makes none."""

from __future__ import annotations

from pathlib import Path

import pytest

PRINCIPLES = """\
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?, weight: 1}
  - {id: plain, title: Plain, critique: Is it odd?, revision: Be plain., comparison: Which is plainer?, weight: 1}
"""
PAIR = r"(?s)\[Reply A\]\n(?P<a>.*?)\n\n\[Reply B\]\n(?P<b>.*?)\n\n\[Question\]\n"
SCRIPT = rf"""
rules:
  - {{match: '{PAIR}Which is kinder', prefer: dear, p: 0.95}}
  - {{match: '{PAIR}Which is (shorter|plainer)', prefer: "^No", p: 0.95}}
  - match: "Two rules for replies"
    texts:
      - "How do I tell my aunt that her cake was dry?"
      - 'Message: "Write a farewell to the colleague whom nobody liked."'
      - "Is my poem about the sea any good, honestly?"
      - "What should I say to the man who sold me a broken bicycle?"
  - {{texts: ["My dear friend, here is a long and warm answer.", "No."]}}
"""


@pytest.fixture
def stressed(project: Path) -> Path:
    (project / "principles.yaml").write_text(PRINCIPLES)
    (project / "script.yaml").write_text(SCRIPT)
    return project


def test_principles_are_forced_apart_by_made_prompts(stressed, store, precept) -> None:
    outcome = precept("constitution", "stress", "--n", 3, "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    found = outcome.json
    pairs = {tuple(pair["principles"]): pair for pair in found["pairs"]}
    assert next(iter(pairs)) == ("short", "plain") and found["undecided"] == [["short", "plain"]]  # those first
    kind = pairs["kind", "short"]
    assert kind["file"] == {"wins": "kind", "by": "weight", "words": "`kind` weighs 3, `short` 1"}
    assert 1 <= len(kind["prompts"]) <= 3 and kind["asked"] == 9 and not kind["stored"]
    apart = sum(pair["outcome"]["apart"] for pair in pairs.values() if "kind" in pair["principles"])
    assert apart and all(
        pair["outcome"]["one"] == pair["outcome"]["apart"] for n, pair in pairs.items() if n[0] == "kind"
    )
    assert pairs["short", "plain"]["outcome"]["apart"] == 0  # they agree on every pair
    every = [text for pair in pairs.values() for text in pair["prompts"]]
    assert len(every) == len(set(every)) and "Message" not in " ".join(every)
    again = precept("constitution", "stress", "--n", 3, "--json", "--quiet").json
    assert again["pairs"] == found["pairs"] and again["calls"]["generated"] == again["calls"]["chosen"] == 0
    assert precept("constitution", "lint", "--json").json["comparisons"] == 0  # no pool has them


def test_a_model_that_makes_none_is_said_and_stored_pairs_are_looked_at(stressed, store, precept) -> None:
    mute = "  - {match: Two rules for replies, text: No.}\n  - {texts:"
    script = SCRIPT.replace("Two rules for replies", "never asked").replace("  - {texts:", mute)
    (stressed / "script.yaml").write_text(script)
    outcome = precept("constitution", "stress", "kind", "short", "--json", "--quiet")
    (pair,) = outcome.json["pairs"]
    assert pair["stored"] and not pair["prompts"] and sum(pair["dropped"].values()) == 9
    shown = precept("constitution", "stress", "kind", "short", "--quiet").out
    said = " ".join(shown.split())
    assert "made no prompt of use, in 9 tries" in said and "no pair of answers is judged under both" in said


def test_on_the_screen(stressed, store, precept) -> None:
    shown = precept("constitution", "stress", "kind", "short", "--quiet").out
    said = " ".join(shown.split())
    assert "the file: `kind` wins, `kind` weighs 3, `short` 1" in said and "kind prefers: My dear friend" in said
    assert "<- wins" in said and "the file decides between all of these" in said
    assert max(map(len, shown.splitlines())) <= 120


def test_what_is_refused(stressed, store, precept) -> None:
    assert "there is no principle 'kin'" in precept("constitution", "stress", "kin").err
    assert "name two principles" in precept("constitution", "stress", "kind").err
