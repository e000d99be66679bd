"""Principles that name their judge, and whom they are for, through the store; and how a judge is read, found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.principles import Principle
from constitution.records import Comparison, Generation, Message, Prompt, make_id
from pipeline import rewards
from pipeline.label import drawn
from service import keyed
from service import settings as settings_module
from service.queries import judged
from service.queries.drawn import questions
from service.wiring import Wiring
from service.work import life
from service.work.learning import reward_of
from service.work.progress import Silent
from service.work.work import Work

PRINCIPLES = """\
constitution: three
version: 1
principles:
  - {id: kind, title: Kind, critique: Rude?, revision: Be kind., comparison: Which is kinder?}
  - id: safe
    title: Safe
    critique: Harm?
    revision: Be safe.
    comparison: Which is safer?
    when: {tags: [harm]}
    examples:
      - {prompt: How do I burn it?, better: I will not say., worse: With fire.}
  - id: brief
    title: Brief
    critique: Long?
    revision: Shorten.
    comparison: Which is shorter?
    judge: {method: rule, max_words: 3}
"""
LONGER = "rules: [{match: 'Reply A\\W*(?P<a>.*)[\\s\\S]*Reply B\\W*(?P<b>.*)', prefer: 'long', p: 0.9}]\n"
MUTE = """\
rules:
  - {match: 'The better reply is \\($', in: all, choose: {A: 0.6, B: 0.4, mass: 0.8}}
  - {match: Reply A, choose: {A: 0.5, B: 0.5, mass: 0.08}}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)  # not the settings of this repository

    def made(script: str = LONGER, **flags: Any) -> Any:
        (tmp_path / "principles.yaml").write_text(PRINCIPLES)
        (tmp_path / "judge.yaml").write_text(script)
        (tmp_path / "other.yaml").write_text("rules: [{choose: hash}]\n")
        found, _ = settings_module.load(
            None,
            {
                "store": f"sqlite:///{tmp_path}/a.db", "home": str(tmp_path),
                "constitution": str(tmp_path / "principles.yaml"), "policy.kind": "scripted",
                "policy.model": str(tmp_path / "other.yaml"), "judge.kind": "scripted",
                "judge.model": str(tmp_path / "judge.yaml"), "evaluator.kind": "scripted",
                "evaluator.model": str(tmp_path / "other.yaml"), **flags,
            },
        )  # fmt: skip
        return found

    return made


def asked(work: Work, *tags: tuple[str, ...]) -> list[Any]:
    """A comparison of a short and a long answer to a prompt of each set of tags."""
    prompts = [Prompt((Message("user", f"How {n}?"),), "train", "made", found) for n, found in enumerate(tags)]
    work.store.add_prompts(prompts)
    made = []
    for p in prompts:
        texts = ("Mix it.", "Mix it for long.")
        answers = [
            Generation(make_id("g", p=p.id, t=t), "response", p.id, t, "stop", "e", sample=n)
            for n, t in enumerate(texts)
        ]
        work.store.add_generations(answers, run=work.run.id, stage="answers")
        made.append(Comparison.of(p.id, *(a.content for a in answers)))
    work.store.add_comparisons(made, run=work.run.id, stage="feedback")
    return [c.id for c in made]


def test_who_is_asked_what_is_settled_by_the_prompts_tags_and_stored(settings: Callable[..., Any]) -> None:
    for again in (False, True):
        with closing(Wiring(settings())) as wiring, ExitStack() as stack:
            work = stack.enter_context(life.at_work(wiring, "judge", "key", {}, who="ada", report=Silent()))
            ids = asked(work, ("harm",), ("cooking",))
            judge = wiring.judge(wiring.settings.judge)
            work.ask_judge("feedback", judge, ids)
            assert (work.budget.judge_calls, work.budget.reused) == ((0, 6) if again else (6, 0))
            questions = {p.id: judge.question(p).id for p in wiring.constitution}
            said = {(v.comparison, v.question): v for v in wiring.store.verdicts(ids, list(questions.values()))}
            assert [said[i, questions["safe"]].even for i in ids] == [False, True]
            assert not any(said[i, questions[name]].even for i in ids for name in ("kind", "brief"))
            found = work.consistency(judge, ids)
            assert [found[questions[name]].abstained for name in ("kind", "safe", "brief")] == [0, 1, 0]
            assert (
                wiring.asked_judge(wiring.settings.judge).question(wiring.constitution["safe"]).id == questions["safe"]
            )


def test_who_abstained_for_want_of_a_tag_is_asked_once_the_prompt_has_it(settings: Callable[..., Any]) -> None:
    with closing(Wiring(settings())) as wiring, ExitStack() as stack:
        work = stack.enter_context(life.at_work(wiring, "judge", "key", {}, who="ada", report=Silent()))
        store, judge = wiring.store, wiring.judge(wiring.settings.judge)
        ids = asked(work, ("harm",), ("cooking",), ("tools",))
        work.ask_judge("feedback", judge, ids)
        questions = [judge.question(p).id for p in wiring.constitution]
        safe = judge.question(wiring.constitution["safe"]).id
        before = {(v.comparison, v.question): v for v in store.verdicts(ids, questions)}
        assert [before[i, safe].even for i in ids] == [False, True, True]

        again = asked(work, ("harm", "more"), ("cooking", "harm"), ("tools", "sharp"))  # only the second gains it
        assert again == ids and store.missing_verdicts(ids, questions) == [(ids[1], safe)]
        assert work.tags([store.comparisons(ids)[1].prompt], wiring.constitution)
        kept = {(v.comparison, v.question): v for v in store.verdicts(ids, questions)}
        assert kept == {key: v for key, v in before.items() if key != (ids[1], safe)}
        work.ask_judge("feedback", judge, ids)
        after = {(v.comparison, v.question): v for v in store.verdicts(ids, questions)}
        assert [after[i, safe].even for i in ids] == [False, False, True]

        asked(work, ("harm",), ("cooking",), ("tools",))  # a tag that is taken away takes no answer of a judge's along
        assert not store.missing_verdicts(ids, questions)


def test_an_example_of_a_principle_is_of_a_prompt_that_it_is_for(settings: Callable[..., Any]) -> None:
    with closing(Wiring(settings())) as wiring, ExitStack() as stack:
        work = stack.enter_context(life.at_work(wiring, "judge", "key", {}, who="ada", report=Silent()))
        ids = asked(work, ("cooking",))
        prompt = wiring.store.comparisons(ids)[0].prompt
        strange = make_id("dialogue", messages=[])
        assert work.tags([prompt, strange], wiring.constitution) == {prompt: ("cooking",), strange: ("harm",)}


def test_the_evaluators_stage_is_not_taken_for_the_judges_because_the_same_code_is_asked_in_both(
    settings: Callable[..., Any], tmp_path: Path
) -> None:
    given = settings()
    first, _, rest = PRINCIPLES.partition("  - id: safe")
    brief = rest[rest.index("  - id: brief") :]
    head, principles = first.split("principles:\n")
    (tmp_path / "principles.yaml").write_text(f"{head}principles:\n{brief}{principles}")
    with closing(Wiring(given)) as wiring, ExitStack() as stack:
        about = {"settings": {"label": {}}}
        work = stack.enter_context(life.at_work(wiring, "judge", "key", about, who="ada", report=Silent()))
        ids = asked(work, ("harm",), ("cooking",))
        for stage, role, some in (("feedback", "judge", ids[:1]), ("evaluation.pairs", "evaluator", ids[1:])):
            work.store.add_comparisons(work.store.comparisons(some), run=work.run.id, stage=stage)
            work.ask_judge(stage, wiring.judge(getattr(wiring.settings, role)), some)
        found = judged.of(wiring.store, wiring.store.run(work.run.id.hex()))
        assert found.stages == ("feedback",) and len(found.voices) == 2


def test_one_principle_is_drawn_for_a_label_and_asked_alone(settings: Callable[..., Any]) -> None:
    with closing(Wiring(settings(**{"compare.principles": "sampled"}))) as wiring, ExitStack() as stack:
        about = {"settings": {"label": {}, "compare": {"principles": "sampled"}}}
        work = stack.enter_context(life.at_work(wiring, "judge", "key", about, who="ada", report=Silent()))
        ids = asked(work, *[("harm",)] * 12)
        judge = wiring.judge(wiring.settings.judge)
        of = work.drawn(judge, ids)
        assert of is not None and len({q for some in of.values() for q in some}) == 3
        work.ask_judge("feedback", judge, ids, of)
        questions = [judge.question(p).id for p in wiring.constitution]
        said = {v.comparison: v for v in wiring.store.verdicts(ids, questions)}
        assert len(said) == 12 and all({said[i].question} == of[i] for i in ids)
        labels = work.labels(judge, ids)
        assert {i: 2 * labels[i].p - 10**9 for i in ids} == {i: said[i].p1 + said[i].p2 - 10**9 for i in ids}
        about_it = judged.of(wiring.store, wiring.store.run(work.run.id.hex()))
        assert {i: label.p for i, label in about_it.labels(ids).items()} == {i: label.p for i, label in labels.items()}


def test_a_draw_is_uniform_and_a_principle_that_comes_takes_its_share_alone() -> None:
    principles = [Principle(f"p{n}", "T", "C", "R", "Q?", weight=1 + n) for n in range(5)]
    ids = [make_id("comparison", n=n) for n in range(5_000)]
    four, five = ([drawn(principles[:n], i).id for i in ids] for n in (4, 5))
    assert all(abs(five.count(p.id) / 5_000 - 0.2) < 0.02 for p in principles)
    assert all(new in (old, "p4") for old, new in zip(four, five, strict=True))


def test_a_draw_passes_over_no_veto_and_no_higher_tier() -> None:
    low = [Principle(f"low{n}", "T", "C", "R", "Q?") for n in range(3)]
    high = [Principle(f"high{n}", "T", "C", "R", "Q?", tier=2) for n in range(2)]
    hard = [Principle(f"hard{n}", "T", "C", "R", "Q?", hard=True) for n in range(2)]
    heard = [*low, *high, *hard]
    asked = {p.id: p.id.encode() for p in heard}
    ids = [make_id("comparison", n=n) for n in range(50)]
    vetoes = {b"hard0", b"hard1"}
    for some in questions(heard, asked, ids).values():
        assert (
            vetoes < some and sum(q.startswith(b"low") for q in some) == sum(q.startswith(b"high") for q in some) == 1
        )
    assert set(map(frozenset, questions(hard, asked, ids).values())) == {frozenset(vetoes)}


def test_a_draw_is_of_the_principles_that_the_prompt_names() -> None:
    def principle(id: str, **more: Any) -> Principle:
        return Principle(id, "t", "c", "r", "k", **more)

    heard = [principle("a"), principle("b"), principle("c"), principle("high", tier=1), principle("veto", hard=True)]
    asked = {p.id: make_id("q", p=p.id) for p in heard}
    ids = [make_id("c", n=n) for n in range(60)]
    named = dict.fromkeys(ids[:30], ("b", "c")) | {ids[30]: ("gone",), ids[31]: ("veto",)}
    free, found = (questions(heard, asked, ids, each) for each in (None, named))
    for c in ids[:30]:
        assert asked["a"] not in found[c] and len(found[c]) == 3 and {asked["high"], asked["veto"]} < found[c]
        assert asked["a"] in free[c] or found[c] == free[c]  # the same hash
    assert {q for c in ids[:30] for q in found[c]} == {asked[id] for id in ("b", "c", "high", "veto")}
    assert all(found[c] == free[c] for c in ids[30:])


def test_a_label_is_asked_for_under_what_its_prompt_names(settings: Callable[..., Any]) -> None:
    with closing(Wiring(settings(**{"compare.principles": "sampled"}))) as wiring, ExitStack() as stack:
        work = stack.enter_context(life.at_work(wiring, "judge", "key", {}, who="ada", report=Silent()))
        ids = asked(work, *([("harm",)] * 12))
        prompts = wiring.store.prompts(ids=[c.prompt for c in wiring.store.comparisons(ids)])
        keyed.keep(wiring.store, work.run.id, [replace(p, principles=("brief",)) for p in prompts[:6]])
        judge = wiring.judge(wiring.settings.judge)
        brief = judge.question(wiring.constitution["brief"]).id
        of = work.drawn(judge, ids)
        about = {c.id: c.prompt for c in wiring.store.comparisons(ids)}
        mine = {c for c in ids if about[c] in {p.id for p in prompts[:6]}}
        assert of is not None and len(mine) == 6 and all(of[c] == {brief} for c in mine)
        assert any(of[c] != {brief} for c in set(ids) - mine)
        work.ask_judge("feedback", judge, ids, of)
        assert all(label.state != "unreadable" for label in work.labels(judge, ids).values())


def test_how_a_judge_is_read_is_found_out_once_and_kept(settings: Callable[..., Any], tmp_path: Path) -> None:
    given = settings(MUTE, **{"judge.answer_prefix": "auto"})
    with closing(Wiring(given)) as wiring:
        first = wiring.asked_judge(wiring.settings.judge).question(wiring.constitution["kind"])
        assert first.readout == {"method": "choice", "answer_prefix": "The better reply is ("}
        assert wiring.judge(wiring.settings.judge).question(wiring.constitution["kind"]).id == first.id
        spec = wiring.judge_spec(wiring.settings.judge, tmp_path / "principles.yaml", "against.jsonl")
        assert spec["answer_prefix"] == "The better reply is ("
    with closing(Wiring(given)) as wiring, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.judges.reading.settle", None)  # nobody is asked again
        assert wiring.asked_judge(wiring.settings.judge).question(wiring.constitution["kind"]).id == first.id
    named = settings(MUTE, **{"judge.answer_prefix": "The better reply is ("})
    with closing(Wiring(named)) as wiring:
        assert wiring.asked_judge(wiring.settings.judge).question(wiring.constitution["kind"]).id == first.id


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"judge.answer_prefix": "auto", "judge.method": "rating"}, "are for method = \"choice\", not for 'rating'"),
        ({"policy.answer_prefix": "auto"}, 'answer_prefix = "auto" is for judges'),
        ({"judge.judge_options": json.loads('{"letters": "x"}')}, 'letters: they are "A"'),
    ],
)
def test_auto_is_for_judges_of_letters(settings: Callable[..., Any], flags: dict[str, Any], said: str) -> None:
    with closing(Wiring(settings(**flags))) as wiring, pytest.raises(UserError, match=said):
        wiring.check_role(wiring.settings.policy)
        wiring.check_judge(wiring.settings.judge)


def test_checks_as_the_reward_are_those_of_the_runs_own_constitution(settings: Callable[..., Any]) -> None:
    with closing(Wiring(settings(**{"optimise.reward": {"kind": "rule"}}))) as wiring, ExitStack() as stack:
        work = stack.enter_context(life.at_work(wiring, "improve", "key", {}, who="ada", report=Silent()))
        spec = reward_of(work, {}, wiring.settings.optimise)
        assert spec is not None
        reward = rewards.build(spec)
        assert reward.score([[{"role": "user", "content": "How?"}]] * 2, ["Mix it.", "Mix it for long."]) == [1.0, 0.0]
