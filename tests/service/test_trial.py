"""A judge is tried before it labels: what is asked, what is said, and what is refused; engines are scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import PROBABILITY
from pipeline.metrics.consistency import Probe
from pipeline.metrics.trust import AT_CHANCE, TOO_FEW, TRUSTED
from service import settings as settings_module
from service.queries import rulings, trials
from service.wiring import Wiring
from service.work import life, trial
from service.work.progress import Silent
from service.work.work import Work

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

OPPOSITE = READS.replace("p: 0.9", "p: 0.1")


def pairs(tmp_path: Path, count: int, principle: str = "kind") -> str:
    """A file of known pairs that the reading judge gets right."""
    rows = [
        {"prompt": f"Question {n}?", "better": f"Hello to you, {n}.", "worse": f"Go away, {n}.", "principle": principle}
        for n in range(count)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "pairs.jsonl"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`work(judge="...", principles=...)`: a run at work that has nothing else to do; `work.report.said` is its log."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:

        def make(judge: str = READS, principles: str = PRINCIPLES, key: str = "a run", **flags: Any) -> Work:
            (tmp_path / "principles.yaml").write_text(principles)
            (tmp_path / "judge.yaml").write_text(judge)
            given = {
                "judge.kind": "scripted",
                "judge.model": "judge.yaml",
                "judge.options": {"log": str(tmp_path / "log")},
                "evaluator.kind": "scripted",
                "evaluator.model": "judge.yaml",
                "policy.model": "none",
                "trial.required": True,
                **flags,
            }
            wiring = Wiring(settings_module.load(None, given)[0])
            stack.callback(wiring.close)
            return stack.enter_context(life.at_work(wiring, "improve", key, {}, who="me", report=Said()))

        yield make


class Said(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text.strip())


def asked(tmp_path: Path) -> int:
    return len((tmp_path / "log").read_text().splitlines())


def tried(work: Any) -> Any:
    return trial.try_judge(work, "judge", work.settings.judge)


FREE = {"trial.required": False}


def test_a_judge_is_asked_the_examples_and_the_named_pairs_once(work: Any, tmp_path: Path) -> None:
    at_work = work(**{"trial.pairs": [pairs(tmp_path, 12)]})
    found = tried(at_work)
    once = {"trial.canaries": 0}
    assert (found.in_all.word, found.believed, found.left_out) == (TRUSTED, True, ())
    assert found.in_all.figures.accuracy.score.right == 16 and found.in_all.figures.consistent.value == 1.0
    assert found.by_principle["kind"].word == TRUSTED and found.by_principle["short"].word == TOO_FEW
    assert asked(tmp_path) == 32 and at_work.budget.judge_calls == 32
    again = work(key="another run", **{"trial.pairs": ["pairs.jsonl"], **once})
    assert tried(again).as_dict() == found.as_dict() and asked(tmp_path) == 32
    more = work(key="a third", **{"trial.pairs": [pairs(tmp_path, 14)], **once})
    assert tried(more).in_all.figures.asked == 18 and asked(tmp_path) == 36
    assert (trial.stored(at_work, "judge") or {}).items() >= found.as_dict().items()
    assert trial.stored(at_work, "evaluator") is None


def test_too_few_pairs_stop_the_run_with_how_many_would_settle_it(work: Any) -> None:
    with pytest.raises(UserError) as refused:
        tried(work())
    said = str(refused.value)
    assert "nothing was generated, because the judge is not trusted to label" in said
    assert "right on 100% of 4 prompts (95% interval 40% to 100%)" in said
    assert "Write 31 more examples" in said and "trial.required = false" in said and "\n" not in said
    free = work(**FREE)
    assert tried(free).in_all.word == TOO_FEW
    assert any("write 32 more" in line or "31 more" in line for line in free.report.said)


def test_a_judge_that_is_wrong_stops_the_run(work: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the judge is at chance or inverted: right on 0% of 16 prompts"):
        tried(work(OPPOSITE, **{"trial.pairs": [pairs(tmp_path, 12)]}))


def test_a_principle_that_is_read_the_wrong_way_round_is_left_out(work: Any, tmp_path: Path) -> None:
    """Right under one question, wrong under the other."""
    rules = (
        READS.replace("Reply A", "Reply A(?=[\\s\\S]*kinder)").replace("]\n", "") + ", " + OPPOSITE.partition("[")[2]
    )
    rows = [
        {"prompt": f"Q {n}?", "better": f"Hello to you, {n}.", "worse": f"Go {n}.", "principle": p}
        for n in range(20)
        for p in ("kind", "short")
    ]
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    at_work = work(rules, **{"trial.pairs": ["both.jsonl"], **FREE})
    found = tried(at_work)
    ruling = rulings.of(at_work.store, at_work.run)
    assert ruling.left_out == ("short",) and "left out: short" in ruling.why
    assert len(at_work.voices(at_work.wiring.judge(at_work.settings.judge))) == 1
    assert found.by_principle["kind"].word == TRUSTED and found.by_principle["short"].word == AT_CHANCE
    assert found.left_out == ("short",)
    assert any("`short` is left out: the worse answer is preferred" in line for line in found.as_dict()["says"])


def test_a_judge_that_is_wrong_everywhere_and_labels_nevertheless_keeps_its_voices(work: Any, tmp_path: Path) -> None:
    """Somebody said so; with nobody left there would be no label."""
    rows = [
        {"prompt": "Q?", "better": f"Hello {n}, you.", "worse": "Go.", "principle": p}
        for n in range(9)
        for p in ("kind", "short")
    ]
    (tmp_path / "both.jsonl").write_text(
        "".join(json.dumps({**r, "prompt": f"{i}?"}) + "\n" for i, r in enumerate(rows))
    )
    at_work = work(OPPOSITE, **{"trial.pairs": ["both.jsonl"], **FREE})
    assert tried(at_work).left_out == ("kind", "short")
    assert rulings.of(at_work.store, at_work.run).left_out == ()


def test_what_is_asked_labels_nothing(work: Any) -> None:
    from service.queries import pool

    at_work = work(**FREE)
    tried(at_work)
    assert pool.find(at_work.store).comparisons == ()


def test_a_constitution_without_examples_is_asked_pairs_of_ours_to_see_whether_it_reads(work: Any) -> None:
    bare = "\n".join(line for line in PRINCIPLES.splitlines() if "prompt:" not in line and "examples:" not in line)
    with pytest.raises(UserError, match=r"no pair; 35 more examples"):
        tried(work(ALWAYS_A, bare))
    with pytest.raises(UserError, match=r"4 put less than label.min_mass"):
        tried(work(MUTE, bare, key="mute"))


def test_a_judge_that_cannot_be_read_is_refused_with_what_was_measured_and_what_to_set(work: Any) -> None:
    """Before: told after every answer and revision had been generated."""
    with pytest.raises(UserError) as refused:
        tried(work(WITH_PREFIX))
    said = str(refused.value)
    assert "the judge's answers cannot be read: of 4 pairs" in said
    assert "4 put less than label.min_mass = 0.5 of the probability on A and B (median 0.08)" in said
    assert 'Set judge.answer_prefix = "The better reply is ("' in said and "A and B hold 0.80" in said
    assert "'Answer: (' 0.30" in said
    assert "so begun, its two orders agree on 0 of 4 questions, no more than guessing" in said
    assert "\n" not in said


def test_only_a_few_are_asked_of_a_judge_that_cannot_be_read(work: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of 8 pairs"):
        tried(work(MUTE, **{"trial.pairs": [pairs(tmp_path, 30)]}))
    assert asked(tmp_path) < 60


def test_the_prefix_that_was_named_is_what_is_read(work: Any) -> None:
    at_work = work(WITH_PREFIX, **{"judge.answer_prefix": "The better reply is (", **FREE})
    assert tried(at_work).in_all.figures.unreadable == 0


def test_a_judge_that_no_beginning_helps_is_refused(work: Any) -> None:
    with pytest.raises(UserError, match=r"Other beginnings of its answer do not help .*0\.08.*judge\.model"):
        tried(work(MUTE))


def test_a_rule_that_reads_any_mass_refuses_nobody(work: Any) -> None:
    assert tried(work(MUTE, **{"label.min_mass": 0.0, **FREE})).in_all.figures.unreadable == 0


def test_a_judge_that_reads_by_position_is_told_of_with_numbers(work: Any, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"at chance or inverted: right on 50% of 16 .*; it names what is shown first in 100%"
    ):
        tried(work(ALWAYS_A, **{"trial.pairs": [pairs(tmp_path, 12)]}))


def test_an_evaluator_that_is_not_trusted_is_told_of_and_stops_nothing(work: Any) -> None:
    at_work = work()
    trial.try_judge(at_work, "evaluator", at_work.settings.evaluator)
    assert any("no model is promoted on the word of an evaluator" in line for line in at_work.report.said)
    assert trial.stored(at_work, "evaluator")["verdict"] == TOO_FEW


def test_labels_of_a_judge_at_chance_are_not_trained_on(work: Any) -> None:
    at_work = work(ALWAYS_A, **FREE)
    tried(at_work)
    with pytest.raises(UserError, match=r"the judge is at chance: of 24 questions its two orders agree on 6 \(25%; "):
        trial.refuse_chance(at_work, [Probe(20, 0.3, 0.5)])
    # One that is seen to read nevertheless, by what it says of revisions, passes: a bias alone is no ignorance.
    trial.refuse_chance(at_work, [Probe(20, 0.45, 1.0)])
    trial.refuse_chance(at_work, [Probe(40, 0.7, 0.5)])
    # And a rule that takes verdicts of any order has been chosen by somebody.
    other = work(ALWAYS_A, key="other", **{"label.consistent": False, **FREE})
    tried(other)
    trial.refuse_chance(other, [Probe(20, 0.3, 0.5)])


def test_a_run_begins_only_with_known_pairs_that_can_be_read(work: Any, tmp_path: Path) -> None:
    from service import preflight

    at_work = work(**{"trial.pairs": ["gone.jsonl"]})
    with pytest.raises(UserError, match=r"^trial: .*gone\.jsonl"):
        preflight._files("evaluate", at_work.wiring, False)


def test_a_judge_that_can_be_asked_nothing_is_told_of_at_the_start(work: Any, tmp_path: Path) -> None:
    """Its engine refuses every question; one of them alone would only be left out."""
    with pytest.raises(UserError, match=r"can be asked nothing: A text has .* reads at most 20"):
        tried(work(**{"judge.options": {"context": 20}}))
    row = {"prompt": "Long?", "better": "Hello to you. " * 200, "worse": "No.", "principle": "kind"}
    (tmp_path / "long.jsonl").write_text(json.dumps(row) + "\n")
    flags = {"judge.options": {"context": 400}, "trial.pairs": ["long.jsonl"], **FREE}
    figures = tried(work(key="other", **flags)).in_all.figures
    assert (figures.asked, figures.unreadable, figures.accuracy.pairs) == (5, 1, 4)


def test_pairs_that_cannot_be_used_are_told_of(work: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x", "better": "y"}\n')
    with pytest.raises(UserError, match="bad"):
        tried(work(**{"trial.pairs": ["bad.jsonl"]}))
    with pytest.raises(UserError, match="of principles that the constitution has not were left out: gone"):
        tried(work(key="other", **{"trial.pairs": [pairs(tmp_path, 3, "gone")]}))


RULE = """\
constitution: code
version: 1
principles:
  - id: brief
    title: Brief
    critique: Is it long?
    revision: Be brief.
    comparison: Which is briefer?
    judge: {method: rule, max_words: 5}
    examples:
      - {prompt: Hello?, better: Hi., worse: Hello to you and to all of yours and to everybody else.}
"""


def test_what_code_decides_is_not_tried_and_says_nothing_of_the_model(work: Any) -> None:
    found = tried(work(ALWAYS_A, RULE))
    assert found.believed and found.exact and "nothing to try" in found.as_dict()["says"][0]
    both = PRINCIPLES + RULE.partition("principles:\n")[2]
    found = tried(work(key="both", principles=both, **FREE))
    assert found.in_all.figures.asked == 4 and "brief" not in found.by_principle


@pytest.mark.parametrize("beside", [False, True])
def test_who_is_said_to_be_left_out_has_no_voice(work: Any, tmp_path: Path, beside: bool) -> None:
    """A judge that reads its one principle the wrong way round, with and without one beside it that code decides."""
    kind = PRINCIPLES.partition("  - id: short")[0]
    principles = kind + RULE.partition("principles:\n")[2] if beside else kind
    at_work = work(OPPOSITE, principles, **{"trial.pairs": [pairs(tmp_path, 30)], **FREE})
    found = tried(at_work)
    left_out = rulings.of(at_work.store, at_work.run).left_out
    assert left_out == found.without_a_voice == (("kind",) if beside else ())
    assert any("`kind` is left out" in line for line in found.as_dict()["says"]) == beside
    assert (
        any(
            "`kind` would be left out, if another principle had a voice: the worse answer is preferred" in line
            for line in found.as_dict()["says"]
        )
        != beside
    )


class Drifting:
    """A judge that answers as it is, and after some requests as another: a model that was changed under its name."""

    def __init__(self, judge: Any, move: float) -> None:
        self._judge, self.move = judge, move

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def judge(self, cases: Any) -> Any:
        said = self._judge.judge(cases)
        shift = round(self.move * PROBABILITY)
        half = PROBABILITY // 2  # what code says of two answers that pass alike, and code does not drift
        moved = [
            v if v.p1 == v.p2 == half else replace(v, p1=abs(v.p1 - shift), p2=abs(v.p2 - shift)) for v in said.verdicts
        ]
        return replace(said, verdicts=moved)


@pytest.mark.parametrize(("move", "refused"), [(0.0, False), (0.01, False), (0.1, True), (0.4, True)])
def test_a_judge_that_drifted_is_refused_when_it_is_asked_again(
    work: Any, monkeypatch: pytest.MonkeyPatch, move: float, refused: bool
) -> None:
    tried(work(**FREE))
    later = work(key="a later run", **FREE)
    judge = later.wiring.judge
    monkeypatch.setattr(later.wiring, "judge", lambda settings: Drifting(judge(settings), move))
    if not refused:
        tried(later)
        return
    with pytest.raises(UserError, match=r"the judge does not answer as it did: of 4 known pairs .* declare another"):
        tried(later)
    unasked = work(key="nobody asks", **{**FREE, "trial.canaries": 0})
    monkeypatch.setattr(unasked.wiring, "judge", lambda settings: Drifting(judge(settings), move))
    tried(unasked)


def test_drift_is_seen_beside_verdicts_that_abstain(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = PRINCIPLES + RULE.partition("principles:\n")[2]
    flags = {"principles": both, "trial.pairs": [pairs(tmp_path, 12, "")], **FREE}
    tried(work(**flags))
    later = work(key="a later run", **flags)
    judge = later.wiring.judge
    monkeypatch.setattr(later.wiring, "judge", lambda settings: Drifting(judge(settings), 0.4))
    with pytest.raises(UserError, match=r"of 4 known pairs that it was asked again"):
        tried(later)


RULED = """\
constitution: three
version: 1
principles:
  - {id: kind, title: Kind, critique: Rude?, revision: Be kind., comparison: Which is kinder?}
  - {id: brief, title: Brief, critique: Long?, revision: Be brief., comparison: Which is briefer?}
"""


def biased(tmp_path: Path, count: int) -> dict[str, Any]:
    """Known pairs without a principle, and a judge that is right by its mean and names A in both orders."""
    rows = [{"prompt": f"{n}?", "better": f"please {n}", "worse": f"not {n}"} for n in range(count)]
    (tmp_path / "whole.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"trial.pairs": ["whole.jsonl"], "trial.most": 200, "label.min_readable": 0.1}


BIASED = """\
rules:
  - {match: 'Reply A\\W*please', choose: {A: 0.95, B: 0.05}}
  - {match: 'Reply A', choose: {A: 0.6, B: 0.4}}
"""


def test_the_label_rule_is_chosen_on_known_pairs_and_measured_on_others(work: Any, tmp_path: Path) -> None:
    at_work = work(BIASED, RULED, **biased(tmp_path, 120))
    assert tried(at_work).in_all.word == TRUSTED
    kept = rulings.of(at_work.store, at_work.run)
    assert kept.rule is not None and not kept.rule.consistent and "other pairs its AUROC is 1.000" in kept.why
    assert any("label rule is chosen on known pairs" in line for line in at_work.report.said)


def test_a_rule_that_the_settings_name_stays_and_so_does_theirs_where_nothing_tells(work: Any, tmp_path: Path) -> None:
    flags = biased(tmp_path, 120)
    named = work(BIASED, RULED, **flags, **{"label.consistent": True, "limits.stop_at_chance": False})
    tried(named)
    assert rulings.of(named.store, named.run).rule is None
    assert "as the settings say (label.consistent)" in rulings.of(named.store, named.run).why
    fixed = work(BIASED, RULED, key="fixed", **flags, **{"label.choose": "fixed", "limits.stop_at_chance": False})
    tried(fixed)
    assert rulings.of(fixed.store, fixed.run).rule is None
    assert "as the settings say (label.choose)" in rulings.of(fixed.store, fixed.run).why
    few = work(key="few", **FREE)
    tried(few)
    assert rulings.of(few.store, few.run).rule is None and "too few" in rulings.of(few.store, few.run).why


@pytest.mark.parametrize("other", [
    {"judge.judge_options": {"shots": 2}}, {"judge.revision": "2"}, {"judge.base_url": "http://elsewhere/v1"},
    {"judge.template_args": {"enable_thinking": False}}, {"judge.method": "rating"}, {"judge.options": {"a": 1}},
])  # fmt: skip
def test_a_trial_of_another_judge_is_not_told_as_this_ones(work: Any, other: dict[str, Any]) -> None:
    at_work = work(**FREE)
    tried(at_work)
    version = at_work.constitution.version
    assert trials.last(at_work.store, at_work.settings, "judge", version) is not None
    assert trials.last(at_work.store, at_work.settings, "judge", "another constitution") is None
    changed = {name.removeprefix("judge."): held for name, held in other.items()}
    judge = at_work.settings.judge.model_copy(update=changed)
    another = at_work.settings.model_copy(update={"judge": judge})
    assert trials.last(at_work.store, another, "judge", version) is None


@pytest.mark.parametrize("same", [True, False])
def test_a_relabelling_tries_another_judge_than_the_base_had(work: Any, same: bool) -> None:
    base = work(key="the base", **FREE)
    judge = base.wiring.asked_judge(base.settings.judge)
    asked_then = [judge.question(p).id if same else b"another judge's " for p in base.constitution][: 2 if same else 1]
    base.store.add_members(base.run.id, "feedback.questions", asked_then, list(range(len(asked_then))))
    at_work = work(OPPOSITE, key="a relabelling", **{"retrain.base": base.run.id.hex(), "judge.options": {}})
    if same:  # its questions are the base's, so nobody is asked
        at_work.wiring.asked_judge = lambda settings: judge
        trial.try_if_another(at_work)
        assert trial.stored(at_work, "judge") is None
    else:
        with pytest.raises(UserError, match="the judge is not trusted to label"):
            trial.try_if_another(at_work)


CHECKS = {"trial.required": "checks"}


@pytest.mark.parametrize("judge", [OPPOSITE, ALWAYS_A, MUTE], ids=["wrong", "by position", "cannot be read"])
def test_code_decides_alone_where_no_judge_is_believed(work: Any, tmp_path: Path, judge: str) -> None:
    """trial.required = "checks": what is not believed has no voice, and is asked nothing more."""
    both = PRINCIPLES + RULE.partition("principles:\n")[2]
    at_work = work(judge, both, **{"trial.pairs": [pairs(tmp_path, 30)], **CHECKS})
    found = tried(at_work)
    assert found.code_alone and found.believed and found.without_a_voice == ("kind", "short")
    assert "code alone decides, by `brief`" in found.as_dict()["says"][0]
    assert [p.id for p in at_work.heard()] == ["brief"] and rulings.of(at_work.store, at_work.run).left_out
    questions = asked(tmp_path)
    rule = at_work.wiring.judge(at_work.settings.judge)
    ids = at_work.members("trial")
    at_work.ask_judge("feedback", rule, ids, whose="judge")
    assert asked(tmp_path) == questions
    assert len(list(at_work.store.verdicts(ids, [rule.question(at_work.constitution["brief"]).id]))) == len(ids)


def test_a_judge_that_is_believed_is_heard_beside_code(work: Any, tmp_path: Path) -> None:
    both = PRINCIPLES + RULE.partition("principles:\n")[2]
    at_work = work(READS, both, **{"trial.pairs": [pairs(tmp_path, 12)], **CHECKS})
    assert not tried(at_work).code_alone and [p.id for p in at_work.heard()] == ["kind", "short", "brief"]


def test_without_a_checked_principle_a_judge_is_refused_all_the_same(work: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the judge is not trusted to label"):
        tried(work(OPPOSITE, **{"trial.pairs": [pairs(tmp_path, 30)], **CHECKS}))


def test_an_evaluator_without_a_model_measures_what_code_checks(work: Any) -> None:
    """Only where that is asked for; else the model that is missing is asked for."""
    both = PRINCIPLES + RULE.partition("principles:\n")[2]
    none = {"evaluator.kind": "transformers", "evaluator.model": ""}
    at_work = work(READS, both, **none, **CHECKS)
    found = trial.try_judge(at_work, "evaluator", at_work.settings.evaluator)
    assert found.as_dict("evaluator")["says"] == ["no model is the evaluator: code alone decides, by `brief`"]
    assert [p.id for p in at_work.heard("evaluator")] == ["brief"]
    [(held, said)] = trial.conditions(at_work)
    assert held and "no model is the evaluator" in said
    with pytest.raises(UserError, match=r"evaluator\.model"):
        other = work(READS, both, key="another", **none)
        trial.try_judge(other, "evaluator", other.settings.evaluator)


def test_the_evaluator_without_a_model_is_tried_by_itself_and_reads_no_answers(work: Any) -> None:
    from service import preflight
    from service.work.trying import hold

    both = PRINCIPLES + RULE.partition("principles:\n")[2]
    none = {"evaluator.kind": "transformers", "evaluator.model": ""}
    at_work = work(READS, both, **none, **CHECKS)
    held = hold(at_work.settings, who="me", report=Said(), role="evaluator")
    assert held.calls == 0 and held.trial.code_alone and held.trial.by_code == ("brief",)
    reads = work(READS, both, key="reads", **none, **CHECKS, **{"evaluate.reading": "evaluator"})
    with pytest.raises(UserError, match=r"evaluate\.reading asks the evaluator, which has no model"):
        preflight.check_settings("evaluate", reads.wiring)


def test_a_trial_that_stopped_its_run_is_the_last_one_and_not_what_the_run_began_with(
    work: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="too few"):
        tried(work())
    stopped = work()
    assert trial.stored(stopped, "judge") is None
    last = trials.last(stopped.store, stopped.settings, "judge", stopped.constitution.version)
    assert last is not None and last["verdict"] == TOO_FEW and "a run stops" in trials.said(last, "judge", True)
    begun = work(**{"trial.pairs": [pairs(tmp_path, 40)]})
    assert tried(begun).believed
    now = trial.stored(begun, "judge")
    assert now is not None and now["verdict"] == TRUSTED
