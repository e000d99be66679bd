"""`precept constitution lint` and `precept constitution attribute`, over verdicts that were made up and no model's."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from constitution.principles import Constitution
from constitution.records import Generation, Id, Verdict, make_id
from pipeline.compare import pair
from pipeline.engines.scripted import ScriptedEngine
from pipeline.metrics import attribution
from pipeline.metrics.intervals import interval_of
from pipeline.metrics.win_rate import wins, wins_by_outcome
from pipeline.sources.rows import read_prompts
from service import settings as settings_module
from service.queries import attribution as attributing
from service.queries import pool
from service.wiring import Wiring
from storage.store import Store

PAIRS = 120
PRINCIPLES = """\
constitution: lint
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: gentle, title: Gentle, critique: Is it rude?, revision: Be kind., comparison: Which is gentler?}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?}
  - {id: blue, title: Blue, critique: Is it red?, revision: Be blue., comparison: Which is bluer?}
"""
HOSTILE = "Question 0? \x1b[31m[red]\u202e"


@dataclass(frozen=True)
class Made:
    """A finished run of 120 labelled pairs and 8 evaluated ones, after each pair the answer `after` is the longer."""

    wiring: Wiring
    constitution: Constitution
    comparisons: list[Id]
    before: list[Generation]
    after: list[Generation]


def answer(prompt: Id, text: str) -> Generation:
    ident = make_id("test", prompt=prompt, text=text)
    return Generation(ident, "response", prompt, text, "stop", "scripted", prompt_tokens=1, tokens=1)


@pytest.fixture
def made(project: Path, store: Store, monkeypatch) -> Made:
    """`kind` prefers the longer answer on all pairs and `gentle` echoes it; `short` prefers the shorter on the last 40;
    `blue` is answered by position, always. The evaluator: `kind` prefers after on six prompts of eight and before
    on one; on the eighth only `short` votes, for after."""
    (project / "principles.yaml").write_text(PRINCIPLES)
    rows = [{"prompt": HOSTILE if n == 0 else f"Question {n}?", "split": "train"} for n in range(PAIRS + 8)]
    (project / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings, _ = settings_module.load()
    wiring = Wiring(settings)
    constitution, prompts = wiring.constitution, read_prompts(project / "prompts.jsonl", heldout=0, dev=0)
    questions = [wiring.judge(settings.judge).question(p) for p in constitution]
    run = store.start_run("lint", "improve", {"settings": settings.identity()}, constitution.version)
    store.put_constitution(constitution.version, constitution.source)
    store.add_prompts(prompts)
    store.add_questions(questions, constitution=constitution.version)

    def judged(stage: str, first: int, said: list[list[tuple[float, float]]]) -> list[tuple[Generation, Generation]]:
        """A pair of answers to each prompt from the `first` on, and verdicts: probabilities of the longer answer."""
        pairs, comparisons, verdicts = [], [], []
        for number, row in enumerate(said, first):
            one, two = (answer(prompts[number].id, text) for text in (f"short {number}", f"longer {number} \x1b[1m"))
            both = pair(one, two)
            assert both is not None
            for question, numbers in zip(questions, row, strict=True):
                p1, p2 = (round(p * 10**9) for p in numbers)
                if both.first == one.content:
                    p1, p2 = 10**9 - p1, 10**9 - p2
                verdicts.append(Verdict(question.id, both.id, p1, p2, 10**9, 10**9))
            pairs.append((one, two))
            comparisons.append(both)
        store.add_generations([one for one, _ in pairs], run=run.id, stage=f"{stage}.before")
        store.add_generations([two for _, two in pairs], run=run.id, stage=f"{stage}.after")
        store.add_comparisons(comparisons, run=run.id, stage=f"{stage}.pairs" if stage == "evaluation" else stage)
        store.add_verdicts(verdicts, run=run.id, stage=stage)
        return pairs

    yes, no, silent, by_place = (0.97, 0.97), (0.03, 0.03), (0.5, 0.5), (0.99, 0.01)
    judged("feedback", 0, [[yes, yes, no if n >= PAIRS - 40 else silent, by_place] for n in range(PAIRS)])
    told = [[yes if n < 6 else no, silent, silent, by_place] for n in range(7)] + [[silent, silent, yes, by_place]]
    evaluated = judged("evaluation", PAIRS, told)
    comparisons = store.stage_members(run.id, "feedback")
    store.finish_run(run.id, "finished", {"calls": {}})

    def asked(*_: object) -> None:
        raise AssertionError("a model was asked")

    for name in ("choose", "generate", "score"):
        monkeypatch.setattr(ScriptedEngine, name, asked)
    before, after = (list(side) for side in zip(*evaluated, strict=True))
    return Made(wiring, constitution, comparisons, before, after)


def test_lint_finds_what_was_made_up(made, precept) -> None:
    outcome = precept("constitution", "lint", "--json")
    assert outcome.code == 0
    found = outcome.json
    assert (found["comparisons"], found["version"]) == (PAIRS, made.constitution.version)
    by_kind = {finding["kind"]: finding for finding in found["findings"]}
    assert by_kind["redundant"]["principles"] == ["kind", "gentle"]
    assert by_kind["conflict"]["principles"] == ["short", "kind", "gentle"]
    assert set(by_kind["conflict"]["comparisons"]) <= {c.hex() for c in made.comparisons[-40:]}
    assert by_kind["order"]["principles"] == ["blue"] and by_kind["order"]["severity"] == "warning"
    figures = {f["principle"]: f for f in found["principles"]}
    assert [figures[name]["bears_on"] for name in ("kind", "gentle", "short", "blue")] == [120, 120, 40, 0]
    assert figures["blue"]["same"] == {"count": 0, "of": PAIRS, "share": 0.0, "low": 0.0,
                                       "high": pytest.approx(0.0247, abs=1e-3)}  # fmt: skip


def test_lint_on_the_screen_shows_prompts_and_obeys_none(made, precept) -> None:
    shown = precept("constitution", "lint").out
    assert "warning: order" in shown and "notice: redundant" in shown
    assert "Question 119?" in shown or "Question 8" in shown or "Question 9" in shown  # of the last 40
    assert "\x1b[" not in shown


def test_strict_fails_where_there_is_a_warning(made, precept, project) -> None:
    assert precept("constitution", "lint", "--strict").code == 1
    sound = [line for line in PRINCIPLES.splitlines() if "blue" not in line]
    (project / "principles.yaml").write_text("\n".join(sound))
    assert precept("constitution", "lint", "--strict").code == 0


def test_a_draft_in_other_words_is_not_judged_yet(made, precept, project) -> None:
    (project / "draft.yaml").write_text(PRINCIPLES.replace("Which is bluer?", "Which is redder?"))
    found = precept("constitution", "lint", "draft.yaml", "--json").json
    unknown = [f for f in found["findings"] if f["kind"] == "not judged"]
    assert [f["principles"] for f in unknown] == [["blue"]] and unknown[0]["severity"] == "unknown"
    assert not any(f["kind"] == "order" for f in found["findings"])


def test_an_amendment_can_be_linted_by_its_number(made, store, precept) -> None:
    store.ratify(made.constitution.version, "ada", "first", "key")
    assert precept("constitution", "lint", "1", "--json").json["version"] == made.constitution.version
    outcome = precept("constitution", "lint", "nowhere.yaml")
    assert outcome.code == 2 and "nowhere.yaml is no file" in outcome.err


# --- attribution ---------------------------------------------------------------------------------------------------


def test_a_label_is_told_as_the_sum_of_its_parts(made, precept) -> None:
    """Weights 3, 1 and 1; s is 0.94 each: 2.82/10 + 0.94/10 - 0.94/10 for the longer answer, p = 0.782."""
    comparison = made.comparisons[-1].hex()
    found = precept("constitution", "attribute", comparison[:12], "--json").json
    longer_first = found["first"].startswith("longer")
    assert found["comparison"] == comparison and not found["evaluation"]
    assert found["outcome"] == ("first" if longer_first else "second")
    assert found["p"] == pytest.approx(0.782 if longer_first else 0.218, abs=1e-9)
    moved = {part["principle"]: part["moved"] for part in found["principles"]}
    sign = 1 if longer_first else -1
    assert moved == pytest.approx({"kind": 0.282 * sign, "gentle": 0.094 * sign, "short": -0.094 * sign, "blue": 0})
    assert sum(moved.values()) == pytest.approx(found["p"] - 0.5, abs=1e-9)
    assert {part["standing"] for part in found["principles"]} == {"bears", "does not bear"}


def test_a_label_on_the_screen_obeys_nothing(made, precept) -> None:
    shown = precept("constitution", "attribute", made.comparisons[0].hex()).out
    assert "<U+001B>[31m[red]<U+202E>" in shown and "\x1b[" not in shown and "\u202e" not in shown
    assert "+0.352500" in shown or "-0.352500" in shown  # kind: 3 * 0.94 / 8
    assert "████████████" in shown


def test_what_is_said_of_a_label_is_broken_at_words_on_a_terminal(made, precept, monkeypatch) -> None:
    monkeypatch.setattr("cli.screen._terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((made.comparisons[0].hex(),), ()):
        lines = precept("constitution", "attribute", *words).out.splitlines()
        assert lines and max(map(len, lines)) <= 80, max(lines, key=len)


def test_an_evaluated_pair_is_the_evaluator_s_label(made, precept) -> None:
    comparison = pair(made.before[0], made.after[0])
    assert comparison is not None
    assert precept("constitution", "attribute", comparison.id.hex(), "--json").json["evaluation"] is True


def test_a_comparison_that_is_none(made, precept) -> None:
    outcome = precept("constitution", "attribute", "zz")
    assert outcome.code == 2 and "no comparison begins with" in outcome.err


def test_digits_that_fit_several_are_refused(made, precept) -> None:
    first = [c.hex()[0] for c in made.comparisons]
    several = next(digit for digit in first if first.count(digit) > 1)
    outcome = precept("constitution", "attribute", several)
    assert outcome.code == 2 and "write more of the id" in outcome.err


def test_labels_and_the_win_rate_with_each_principle_left_out(made, precept) -> None:
    found = precept("constitution", "attribute", "--json").json
    labels = {row["principle"]: row for row in found["labels"]["principles"]}
    assert sum(found["labels"]["outcomes"].values()) == PAIRS and found["labels"]["outcomes"]["tied"] == 0
    assert [labels[name]["flips"] for name in ("kind", "gentle", "short", "blue")] == [40, 0, 0, 0]
    assert set(labels["kind"]["comparisons"]) == {c.hex() for c in made.comparisons[-40:]}
    assert all(change.endswith("to tied") for change in labels["kind"]["changes"])  # gentle and short are even
    rate = found["win_rate"]
    assert (rate["prompts"], rate["mean"]) == (8, pytest.approx(7 / 8))
    rates = {row["principle"]: row for row in rate["principles"]}
    # Without `kind` seven prompts are ties, and `short` wins the eighth.
    assert rates["kind"]["mean"] == pytest.approx((7 * 0.5 + 1) / 8)
    assert rates["kind"]["change"]["mean"] == pytest.approx((7 * 0.5 + 1 - 7) / 8)
    assert rates["short"]["mean"] == pytest.approx(6.5 / 8) and rates["gentle"]["change"]["mean"] == 0
    shown = precept("constitution", "attribute").out
    assert "win rate of run" in shown and "87.5%" in shown and "\x1b[" not in shown


def test_the_win_rate_is_the_evaluation_s(made) -> None:
    """The same values as `pipeline.metrics.win_rate.wins` counts: equal answers and unreadable pairs are in it."""
    pairs = list(zip(made.before, made.after, strict=True))
    same = replace(made.after[0], text=made.before[0].text)
    pairs = [*pairs, (made.before[0], same)]
    ids = [c.id if (c := pair(*both)) else None for both in pairs]
    asked = [id for id in ids if id]
    votes = attributing.votes(made.wiring, made.constitution, asked, "evaluator")
    _, without = attribution.left_out(votes)
    labels = {label.comparison: label for label in attribution.records(votes, attribution.without(
        votes, attribution.sums(votes), 0))}  # fmt: skip
    values = wins_by_outcome(votes, without[:, 0], pairs, ids)
    assert values.tolist() == wins(labels, pairs, ids)
    assert attributing.win_rate(made.wiring, made.constitution).win_rate == interval_of([1.0] * 6 + [0.0] + [1.0])


def test_without_an_evaluated_run_labels_are_told_all_the_same(project, store, labelled, precept) -> None:
    assert pool.find(store).run is None  # it is still under way
    outcome = precept("constitution", "attribute", "--json")
    assert outcome.code == 0 and outcome.json["win_rate"] is None
    assert "no win rate" in outcome.err and "kind" in outcome.json["labels"]["not_judged"]
    unknown = precept("constitution", "lint", "--json").json["findings"]
    assert {f["kind"] for f in unknown} == {"not judged"}


def test_that_each_was_judged_on_its_share_alone_is_said(project, precept) -> None:
    plain, drawn = (), ("--set", "compare.principles=sampled")
    told = [precept("constitution", "lint", "--json", *flags).json["sampled_principles"] for flags in (plain, drawn)]
    assert told == [False, True]
    said = "each is judged on its share of the pairs"
    assert said in precept("constitution", "lint", *drawn).out and said not in precept("constitution", "lint").out
