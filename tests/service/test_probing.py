"""Whether a judge can be read is told before anything is generated, by a few questions; engines are scripted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.metrics.consistency import Probe
from service import settings as settings_module
from service.wiring import Wiring
from service.work import probing

PRINCIPLES = """\
constitution: two
version: 1
principles:
  - id: kind
    title: Kind
    critique: Is it rude?
    revision: Be kind.
    comparison: Which is kinder?
    examples:
      - {prompt: Hello?, better: Hello to you., worse: Go away.}
      - {prompt: Who are you?, better: A friend., worse: Nobody.}
      - {prompt: May I come in?, better: Do come in., worse: Stay out.}
  - id: short
    title: Short
    critique: Is it long?
    revision: Be short.
    comparison: Which is shorter?
    examples:
      - {prompt: What is two and two?, better: Four., worse: "Two and two are four, as all know."}
"""
READS = (
    "rules: [{match: 'Reply A\\W*(?P<a>.*)[\\s\\S]*Reply B\\W*(?P<b>.*)', prefer: 'you|friend|Do|Four\\.', p: 0.9}]\n"
)
ALWAYS_A = "rules: [{match: Reply A, choose: {A: 0.9, B: 0.1}}]\n"
MUTE = "rules: [{match: Reply A, choose: {A: 0.5, B: 0.5, mass: 0.08}}]\n"
WITH_PREFIX = """\
rules:
  - {match: 'The better reply is \\($', in: all, choose: {A: 0.6, B: 0.4, mass: 0.8}}
  - {match: 'Answer: \\($', in: all, choose: {A: 0.6, B: 0.4, mass: 0.3}}
  - {match: Reply A, choose: {A: 0.5, B: 0.5, mass: 0.08}}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`work(judge="...", principles=...)`: as much of a run as is asked by the probe; `said` is what it logged."""
    monkeypatch.chdir(tmp_path)
    made: list[Wiring] = []

    def make(judge: str = READS, principles: str = PRINCIPLES, **flags: Any) -> Any:
        (tmp_path / "principles.yaml").write_text(principles)
        (tmp_path / "judge.yaml").write_text(judge)
        given = {
            "judge.kind": "scripted",
            "judge.model": "judge.yaml",
            "judge.options": {"log": str(tmp_path / "log")},
            "evaluator.kind": "scripted",
            "evaluator.model": "judge.yaml",
            "policy.model": "none",
            **flags,
        }
        wiring = Wiring(settings_module.load(None, given)[0])
        made.append(wiring)
        said: list[str] = []
        return SimpleNamespace(
            settings=wiring.settings, wiring=wiring, constitution=wiring.constitution, store=wiring.store,
            log=said.append, said=said, timed=lambda name, began: None,
        )  # fmt: skip

    yield make
    for wiring in made:
        wiring.close()


def asked(tmp_path: Path) -> int:
    return len((tmp_path / "log").read_text().splitlines())


def probe(work: Any) -> probing.Reading:
    return probing.probe(work, "judge", work.settings.judge)


def test_a_judge_that_reads_is_asked_its_constitutions_examples_once(work: Any, tmp_path: Path) -> None:
    at_work = work()
    found = probe(at_work)
    assert (found.asked, found.unreadable, found.consistent, found.right, found.first) == (4, 0, 4, 4, 0.5)
    assert at_work.said == [] and asked(tmp_path) == 8
    assert probe(work()) == found  # another process, the same store
    assert asked(tmp_path) == 8
    probing.refuse_chance(at_work, [])
    assert not list(at_work.store.runs())


def test_no_verdict_and_no_question_is_stored_of_it(work: Any) -> None:
    at_work = work()
    probe(at_work)
    with at_work.store._read() as connection:
        for table in ("verdict", "question", "comparison"):
            assert connection.exec_driver_sql(f"select count(*) from {table}").scalar() == 0


def test_a_constitution_without_examples_has_pairs_of_ours(work: Any, tmp_path: Path) -> None:
    bare = "\n".join(line for line in PRINCIPLES.splitlines() if "prompt:" not in line and "examples:" not in line)
    at_work = work(ALWAYS_A, bare)
    found = probe(at_work)
    assert (found.asked, found.consistent, found.first) == (4, 0, 1.0)


def test_a_judge_that_cannot_be_read_is_refused_with_what_was_measured_and_what_to_set(work: Any) -> None:
    """Before: told after every answer and revision had been generated."""
    with pytest.raises(UserError) as refused:
        probe(work(WITH_PREFIX))
    said = str(refused.value)
    assert "the judge's answers cannot be read: of 4 questions" in said
    assert "4 put less than label.min_mass = 0.5 of the probability on A and B (median 0.08)" in said
    assert 'Set judge.answer_prefix = "The better reply is ("' in said and "A and B hold 0.80" in said
    assert "'Answer: (' 0.30" in said
    assert "so begun, its two orders agree on 0 of 4 questions, no more than guessing" in said
    assert "\n" not in said


def test_the_prefix_that_was_named_is_what_is_read(work: Any) -> None:
    at_work = work(WITH_PREFIX, **{"judge.answer_prefix": "The better reply is ("})
    assert probe(at_work).unreadable == 0


def test_a_judge_that_no_beginning_helps_is_refused(work: Any) -> None:
    with pytest.raises(UserError, match=r"Other beginnings of its answer do not help .*0\.08.*judge\.model"):
        probe(work(MUTE))


def test_a_rule_that_reads_any_mass_refuses_nobody(work: Any) -> None:
    assert probe(work(MUTE, **{"label.min_mass": 0.0})).unreadable == 0


def test_a_judge_that_reads_by_position_is_warned_of_with_numbers(work: Any) -> None:
    at_work = work(ALWAYS_A)
    found = probe(at_work)
    assert found.at_chance and found.first == 1.0
    [warning] = at_work.said
    assert "of 4 questions with known answers its two orders agree on 0 (guessing: 2)" in warning
    assert "chose A in 100% of its answers" in warning


def test_labels_of_a_judge_at_chance_are_not_trained_on(work: Any) -> None:
    at_work = work(ALWAYS_A)
    with pytest.raises(UserError, match=r"the judge is at chance: of 24 questions its two orders agree on 6 \(25%; "):
        probing.refuse_chance(at_work, [Probe(20, 0.3, 0.5)])
    # One that is seen to read nevertheless, by what it says of revisions, passes: a bias alone is no ignorance.
    probing.refuse_chance(at_work, [Probe(20, 0.45, 1.0)])
    probing.refuse_chance(at_work, [Probe(40, 0.7, 0.5)])
    # And a rule that takes verdicts of any order has been chosen by somebody.
    probing.refuse_chance(work(ALWAYS_A, **{"label.consistent": False}), [Probe(20, 0.3, 0.5)])


def test_one_example_that_is_too_long_is_left_out(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = work()
    judge = at_work.wiring.judge(at_work.settings.judge)
    answer = judge.judge

    def short(cases: Any) -> Any:
        if any("come in" in case.messages[0].content for case in cases):
            raise UserError("A text has 9999 tokens, and the model reads at most 128.")
        return answer(cases)

    monkeypatch.setattr(judge, "judge", short)
    assert probing._ask(at_work, judge).asked == 3


def test_a_judge_that_can_be_asked_nothing_is_told_of_at_the_start(work: Any) -> None:
    """Its engine refuses every question; one of them alone would only be left out."""
    with pytest.raises(UserError, match=r"can be asked nothing: A text has .* reads at most 20"):
        probe(work(**{"judge.options": {"context": 20}}))
    context = len("user: Compare two replies") + 250  # all but the longest of the four
    assert 0 < probe(work(**{"judge.options": {"context": context}})).asked <= 4
