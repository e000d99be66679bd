"""`precept constitution lint --ask`: each question and its twin before a scripted judge, which reads one and not the
other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROWS = "\n".join(
    f"      - {{prompt: 'Ask {n}?', better: 'a good answer {n}', worse: 'a bad answer {n}'}}" for n in range(12)
)
PRINCIPLES = f"""\
constitution: two
version: 1
principles:
  - id: kind
    title: Kind
    critique: Is it rude?
    revision: Be kind.
    comparison: Which reply is kinder?
    examples:
{ROWS}
  - id: deaf
    title: Deaf
    critique: Is it rude?
    revision: Be calm.
    comparison: Which reply is more patient?
    examples:
{ROWS}
  - id: odd
    title: Odd
    critique: Is it odd?
    revision: Be even.
    comparison: Is a reply even?
    examples:
{ROWS}
  - {{id: bare, title: Bare, critique: c, revision: r, comparison: Which reply has fewer words?}}
"""
PAIR = r"(?s)\[Reply A\]\n(?P<a>.*?)\n\n\[Reply B\]\n(?P<b>.*?)\n\n\[Question\]\n"
SCRIPT = rf"""
rules:
  - {{match: '{PAIR}Which reply is kinder', prefer: good, p: 0.9}}
  - {{match: '{PAIR}Which reply is less kind', prefer: bad, p: 0.9}}
  - {{match: '{PAIR}.*patient', prefer: good, p: 0.9}}
  - {{match: '{PAIR}Which reply is uneven', prefer: bad, p: 0.9}}
  - {{match: '{PAIR}Is a reply even', prefer: bad, p: 0.9}}
"""


@pytest.fixture
def worded(project: Path) -> Path:
    (project / "principles.yaml").write_text(PRINCIPLES)
    (project / "script.yaml").write_text(SCRIPT)
    return project


def test_a_judge_that_reads_and_one_that_does_not(worded, precept) -> None:
    outcome = precept("constitution", "lint", "--ask", "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    asked = outcome.json["asked"]
    said = {one["principle"]: one for one in asked["principles"]}
    assert {id: one["said"] for id, one in said.items()} == {"kind": "read", "deaf": "not read"}
    assert said["kind"]["question_right"]["right"] == said["kind"]["twin_right"]["right"] == 12
    assert said["deaf"]["same"]["count"] == 12 and said["deaf"]["twin"] == "Which reply is less patient?"
    kinds = {(f["kind"], *f["principles"]) for f in asked["findings"]}
    assert kinds == {("wording not read", "deaf"), ("no twin", "odd"), ("not enough examples", "bare")}
    negative = [f for f in outcome.json["findings"] if f["kind"] == "negative wording"]
    assert [f["principles"] for f in negative] == [["bare"]]


def test_a_twin_of_the_file_is_asked_and_nothing_is_asked_twice(worded, precept) -> None:
    text = PRINCIPLES.replace(
        "    comparison: Is a reply even?\n", "    comparison: Is a reply even?\n    twin: Which reply is uneven?\n"
    )
    (worded / "principles.yaml").write_text(text)
    log = worded / "log.jsonl"
    with (worded / "precept.toml").open("a") as file:
        file.write(f'[judge.options]\nlog = "{log}"\n')
    first = precept("constitution", "lint", "--ask", "--json", "--quiet").json["asked"]
    odd = next(one for one in first["principles"] if one["principle"] == "odd")
    assert odd["own_twin"] and odd["said"] == "inverted" and odd["twin_right"]["right"] == 12
    count = len(log.read_text().splitlines())
    assert count >= 2 * 2 * 3 * 12
    again = precept("constitution", "lint", "--ask", "--json", "--quiet").json["asked"]
    assert again == first and len(log.read_text().splitlines()) == count
    json.dumps(again)


def test_on_the_screen(worded, precept) -> None:
    shown = precept("constitution", "lint", "--ask", "--quiet")
    assert shown.code == 0
    for words in (
        "12 of 12 (74% to 100%)",
        "not read",
        "kind: Which reply is less kind?",
        "notice: wording not read",
        "round: `odd`",
    ):
        assert words in shown.out or words in " ".join(shown.out.split()), words
    assert max(map(len, shown.out.splitlines())) <= 120


def test_principles_that_nobody_is_asked_a_question_about_are_named(worded, precept) -> None:
    checked = "\n".join(
        f"  - {{id: {id}, title: T, critique: c, revision: r, comparison: Which reply is short?, judge: {judge}}}"
        for id, judge in (("brief", "{method: rule, max_words: 3}"), ("likely", "contrast"))
    )
    (worded / "principles.yaml").write_text(PRINCIPLES + checked)
    asked = precept("constitution", "lint", "--ask", "--json", "--quiet").json["asked"]
    (told,) = [f for f in asked["findings"] if f["kind"] == "no question"]
    assert told["principles"] == ["brief", "likely"] and "`brief` (rule), `likely` (contrast)" in told["sentence"]
    assert told["severity"] == "notice"
