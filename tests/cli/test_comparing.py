"""`precept constitution compare` on a store of a few labels that were made up."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

from constitution import loading
from constitution.records import Comparison, Message, Prompt, Verdict, text_digest
from service import settings as settings_module
from service.wiring import Wiring

HOSTILE = "Question 0? \x1b[31m[red]\u202e"
B = """\
constitution: other
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 1}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?, weight: 3}
"""
NEW = "  - {id: blue, title: Blue, critique: Is it red?, revision: Be blue., comparison: Which is bluer?, weight: 9}\n"


@dataclass(frozen=True)
class Shown:
    comparison: str
    first: str


@pytest.fixture
def judged(project, store) -> list[Shown]:
    """Three pairs: on the first `kind` (weight 3 in principles.yaml, 1 in b.yaml) is for the first answer and `short`
    (1, and 3) for the second; on the others both are for the first."""
    (project / "b.yaml").write_text(B)
    (project / "more.yaml").write_text(B + NEW)
    wiring = Wiring(settings_module.load()[0])
    judge = wiring.asked_judge(wiring.settings.judge)
    questions = [judge.question(p) for p in loading.load("principles.yaml")]
    store.add_questions(questions)
    shown = []
    for number, said in enumerate([(1, 0), (1, 1), (1, 1)]):
        prompt = Prompt((Message("user", HOSTILE if number == 0 else f"Question {number}?"),), "train")
        store.add_prompts([prompt])
        texts = {text_digest(text): text for text in (f"one {number} \x1b[1m", f"two {number}")}
        store.add_answers(texts.values())
        comparison = Comparison.of(prompt.id, *texts)
        store.add_comparisons([comparison])
        store.add_verdicts(
            [
                Verdict(q.id, comparison.id, p * 10**9, p * 10**9, 10**9, 10**9)
                for q, p in zip(questions, said, strict=True)
            ]
        )
        shown.append(Shown(comparison.id.hex(), texts[comparison.first]))
    wiring.close()
    return shown


def test_where_two_constitutions_disagree(judged, precept) -> None:
    outcome = precept("constitution", "compare", "principles.yaml", "b.yaml")
    assert outcome.code == 0
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "labels 3 of the store: 1 differ" in lines
    assert any(line.startswith("agreement of 3 labels that name an answer under both, 66.7% name") for line in lines)
    assert "first in A 2 1" in lines and "second in A 0 0" in lines
    assert "kind 3 1 1 0 +25.0 0" in lines  # with weights 1 and 1 it is a tie
    assert "short 1 3 0 1 +25.0 0" in lines
    assert "A: first (0.75), by kind" in lines and "B: second (0.25), by short" in lines


def test_what_models_wrote_is_shown_and_not_obeyed(judged, precept) -> None:
    out = precept("constitution", "compare", "principles.yaml", "b.yaml").out
    assert "<U+001B>[31m[red]<U+202E>" in out and "\x1b[" not in out and "\u202e" not in out


def test_as_json(judged, precept) -> None:
    found = precept("constitution", "compare", "principles.yaml", "b.yaml", "--json").json
    assert found["labels"] == {"total": 3, "sure": 3, "open": 0, "decided": 3, "disagreements": 1}
    assert found["table"]["first"] == {"first": 2, "second": 1, "tied": 0, "unreadable": 0}
    assert found["agreement"]["mean"] == pytest.approx(2 / 3)
    (example,) = found["examples"]
    assert (example["comparison"], example["first"], example["prompt"]) == (
        judged[0].comparison,
        judged[0].first,
        HOSTILE,
    )
    assert example["a"] == {"label": "first", "p": 0.75, "principles": ["kind"]}
    assert [p["weights"] for p in found["principles"]] == [[3.0, 1.0], [1.0, 3.0]]
    assert "trained" not in found


def test_what_is_not_asked_yet_is_open_and_has_a_price(judged, precept) -> None:
    """`blue` outweighs the others: every label can turn."""
    outcome = precept("constitution", "compare", "b.yaml", "more.yaml")
    assert "0 differ, 3 are open" in outcome.out and "B's blue on 3 pairs" in outcome.out
    assert "to ask: 3 verdicts" in outcome.out and "not known" in outcome.out
    found = precept("constitution", "compare", "b.yaml", "more.yaml", "--json").json
    assert found["agreement"]["mean"] is None and found["price"]["verdicts"] == 3 and found["examples"] == []


def test_labels_of_one_principle_each_are_said_to_be_counted_as_if_of_all(judged, precept) -> None:
    said = "as if all had been asked"
    plain = precept("constitution", "compare", "principles.yaml", "b.yaml")
    drawn = precept("constitution", "compare", "principles.yaml", "b.yaml", "--set", "compare.principles=sampled")
    assert said not in plain.out and said in drawn.out, drawn.err
    assert precept("constitution", "compare", "principles.yaml", "b.yaml", "--json").json["sampled_principles"] is False


def test_a_picture(judged, precept, project: Path) -> None:
    outcome = precept("constitution", "compare", "principles.yaml", "b.yaml", "--picture", "labels.svg")
    assert outcome.code == 0 and "drawn into labels.svg" in outcome.err
    shown = "".join(ElementTree.parse(project / "labels.svg").getroot().itertext())
    assert "1 of 3 labels differ" in shown and "kind  (3 → 1)" in shown
    refused = precept("constitution", "compare", "principles.yaml", "b.yaml", "--picture", "labels.pdf")
    assert refused.code == 2 and "labels.pdf: a picture is an .svg or a .png file" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.yaml", "b.yaml"], "nowhere.yaml is no file, and no revision"),
        (["principles.yaml", "b.yaml", "--run", "abc"], "there is no run 'abc'"),
        (["principles.yaml", "b.yaml", "--train"], "there is no finished run to start from"),
    ],
)
def test_mistakes(judged, precept, words: list[str], said: str) -> None:
    outcome = precept("constitution", "compare", *words)
    assert outcome.code == 2 and said in outcome.err and not outcome.out


def test_one_version_says_so(judged, precept, project: Path) -> None:
    (project / "titled.yaml").write_text(B.replace("title: Kind", "title: Kinder"))
    out = precept("constitution", "compare", "b.yaml", "titled.yaml").out
    assert "one version" in out and "0 differ" in out
