"""The playground on scripted models: what the judge says of each pair is known, so every figure is worked out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.progress import Reporter
from constitution.errors import UserError
from constitution.records import Checkpoint, Generation, Message, Prompt, make_id
from pipeline import asking
from pipeline.engines.engine import EngineError
from pipeline.respond import respond
from service import settings as settings_module
from service.actions import score
from service.actions.score_records import Preferred, Scored
from service.actions.typed_answers import reward_of
from service.wiring import Wiring
from service.work.budget import BudgetReached
from service.work.progress import Silent
from storage.runs import Run
from storage.store import Store

PRINCIPLES = """\
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?}
  - {id: sung, title: Sung, critique: Is it sung?, revision: Sing it., comparison: Which is sung?}
"""
PAIR = r"(?s)\[Reply A\]\s(?P<a>.*)\[Reply B\]\s(?P<b>.*)\[Question\]\sWhich is "
# Who is asked which: the policy answers, the critic criticises, the evaluator alone knows how to choose.
SCRIPTS = {
    "policy.yaml": "rules: [{texts: [please one, two, three]}]",
    "critic.yaml": """rules:
  - {match: "Is it rude", text: It is rude.}
  - {match: "Is it long", text: It is long.}
  - {match: "Is it sung", text: It is said.}
  - {match: "Be kind", text: please mend it}
  - {match: "Be short", text: two}
  - {match: "Sing it", text: la, finish_reason: length}
""",
    "judge.yaml": "rules: [{text: this judge made the labels}]",
    "evaluator.yaml": f"""rules:
  - {{match: '{PAIR}kinder', prefer: please, p: 0.95}}
  - {{match: '{PAIR}shorter', prefer: '^[^ ]*\\s*$', p: 0.9}}
  - {{match: '{PAIR}sung', choose: {{A: 0.5, B: 0.5, mass: 0.1}}}}
""",
}
LIKING = """
def length(prompts, answers):
    return [float(len(answer)) for answer in answers]

def broken(prompts, answers):
    return [float("nan")] * len(answers)
"""
PROMPTS = ["How do I bake bread?", "How do I bake a cake?", "Who are you?"]


@dataclass
class Made:
    home: Path
    run: Run | None = None

    def wiring(self, **flags: Any) -> Wiring:
        return Wiring(settings_module.load(None, {name.replace("__", "."): x for name, x in flags.items()})[0])

    def score(self, prompt: str, answer: str, *, flags: dict[str, Any] | None = None, **options: Any) -> Scored:
        with closing(self.wiring(**(flags or {}))) as wiring:
            return score.score(wiring, prompt, answer, **{"n": 4, "report": Silent(), **options})

    def prefer(self, prompt: str, first: str, second: str, **options: Any) -> Preferred:
        with closing(self.wiring()) as wiring:
            return score.prefer(wiring, prompt, first, second, report=Silent(), **options)

    def rows(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.home / "precept.db")) as database:
            names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            return {name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in names}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A folder whose policy, critic, judge and evaluator are scripts; its store is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    roles = {name: f"{name}.yaml" for name in ("policy", "critic", "judge", "evaluator")}
    sections = "".join(f'[{name}]\nkind = "scripted"\nmodel = "{file}"\n' for name, file in roles.items())
    (tmp_path / "precept.toml").write_text(f'store = "sqlite:///precept.db"\n{sections}')
    (tmp_path / "principles.yaml").write_text(PRINCIPLES)
    (tmp_path / "liking.py").write_text(LIKING)
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
    return Made(tmp_path)


@pytest.fixture
def made(project: Made) -> Made:
    """One finished run, rewarded by length; its starting model answered the first two prompts, once each, as a run's
    own requests have it. Another model answered them, too."""
    finish(project, {"kind": "function", "name": "liking:length"})
    return project


def finish(project: Made, reward: dict[str, Any], name: str = "first") -> Run:
    with closing(project.wiring(optimise__reward=reward)) as wiring:
        store, constitution = wiring.store, wiring.constitution
        store.put_constitution(constitution.version, constitution.source)
        started = {"settings": wiring.settings.identity(), "policy": wiring.start()}
        run = store.start_run(name, "improve", started, constitution.version)
        prompts = [Prompt((Message("user", text),), "train", "made") for text in PROMPTS]
        store.add_prompts(prompts)
        store.add_members(run.id, "prompts", [p.id for p in prompts])
        role = wiring.role(wiring.settings.policy)
        answers, _ = asking.answer(respond(prompts[:2], role, seed=wiring.settings.seed), role.engine)
        store.add_generations(answers, run=run.id, stage="answers")
        tuned = [
            Generation(make_id("tuned", prompt=p.id), "response", p.id, "tuned", "stop", "another") for p in prompts
        ]
        store.add_generations(tuned, run=run.id, stage="evaluation.after")
        store.finish_run(run.id, "finished", result={})
        project.run = store.run(run.id)
        return project.run


@pytest.fixture
def opened(made: Made) -> Iterator[Store]:
    with Store.open("sqlite:///precept.db") as store:
        yield store


# --- the baseline ----------------------------------------------------------------------------------------------------


def test_stored_answers_come_first_and_only_the_rest_is_asked_for(made: Made) -> None:
    found = made.score(PROMPTS[0], "no", revision=False)
    assert (len(found.others), found.stored, found.near) == (4, 1, ())
    assert [other.stored for other in found.others] == [True, False, False, False]
    assert found.by.calls["generated"] == 3
    # The other three are what a run would have been answered: samples 1 to 3 of the same requests.
    with closing(made.wiring()) as wiring:
        role = wiring.role(wiring.settings.policy)
        asks = respond([Prompt((Message("user", PROMPTS[0]),), "train")], role, seed=0, samples=4)
        assert [g.text for g in asking.answer(asks, role.engine)[0]] == [other.text for other in found.others]
    assert made.score(PROMPTS[0], "no", n=1, revision=False).by.calls["generated"] == 0
    assert "tuned" not in [other.text for other in found.others]


def test_nothing_is_stored(made: Made) -> None:
    before = made.rows()
    made.score("How do I bake bread now?", "no")
    made.prefer(PROMPTS[0], "please", "no")
    assert made.rows() == before and before["generation"] == 5


def test_a_new_prompt_is_told_its_nearest_whose_answers_place_the_reward(made: Made) -> None:
    found = made.score("Bake me bread?", "no", revision=False)
    assert (len(found.others), found.stored) == (4, 0)
    assert [near.prompt for near in found.near] == [PROMPTS[0], PROMPTS[1]]  # the third was not answered, nor is near
    assert found.near[0].cosine > found.near[1].cosine > 0 and [near.answers for near in found.near] == [1, 1]
    assert found.reward is not None and found.reward.among_near is not None
    assert found.reward.among_near.mean == 0  # "no" is shorter than all there is
    assert made.score("Bake me bread?", "no", n=1, revision=False).near == found.near[:1]
    assert made.score("Xyzzy", "no", revision=False).near == ()


def test_the_named_run_is_looked_at_from(made: Made) -> None:
    first = made.run
    assert first is not None
    second = finish(made, {"kind": "function", "name": "liking:broken"}, "second")
    assert made.score(PROMPTS[0], "no", revision=False).by.run == second
    named = made.score(PROMPTS[0], "no", run=first.id.hex()[:8], revision=False)
    assert named.by.run == first and named.reward is not None


# --- the judge, the reward and the gap -------------------------------------------------------------------------------


def against(made: Made, answer: str, values: dict[str, float], **options: Any) -> Scored:
    """The answer scored, after each of the baseline's texts was found to have the value that is expected."""
    found = made.score(PROMPTS[0], answer, n=16, revision=False, **options)
    assert {other.text: other.value for other in found.others} == values
    return found


def test_the_figures_of_a_pair_are_those_of_the_label_rule(made: Made) -> None:
    """`kind` (3) likes "please", `short` (1) one word; `sung` (1) is unreadable. p of "please" against "two" is
    1/2 + (3 x 0.9 - 0.8) / 8."""
    found = against(made, "please do", {"please one": 0.5, "two": 1.0, "three": 1.0})
    texts = [other.text for other in found.others]
    rude = 16 - texts.count("please one")
    assert found.against is not None and 0 < rude < 16
    assert found.against.win_rate is not None
    assert found.against.win_rate.mean == pytest.approx((rude + texts.count("please one") / 2) / 16)
    assert [(r.principle, r.weight, r.bears, r.wins) for r in found.against.principles] == [
        ("kind", 3000, rude, rude), ("short", 1000, rude, 0), ("sung", 1000, 0, 0),
    ]  # fmt: skip
    assert found.by.judge == "evaluator" and found.by.missing == ()
    assert found.by.calls["chosen"] == 2 * 3 * 3  # both orders, three principles, three different texts
    assert found.by.seconds > 0


def test_an_answer_that_the_reward_alone_likes_is_marked(made: Made) -> None:
    found = against(made, "a long and rude answer", {"please one": 0.0, "two": 0.0, "three": 0.0})
    assert found.reward is not None and found.reward.reward == 22
    assert found.reward.percentile is not None and found.reward.percentile.mean == 1
    assert found.gap is not None and found.gap.marked and found.gap.interval.mean == 1
    assert "hacking" in found.gap.reading
    liked = against(made, "please", {"please one": 1.0, "two": 1.0, "three": 1.0})
    assert liked.gap is not None and not liked.gap.marked and liked.gap.interval.mean < 0


def test_the_answer_of_the_model_itself_is_a_tie_with_itself(made: Made) -> None:
    found = made.score(PROMPTS[0], "three", n=16, revision=False)
    assert {other.text: other.value for other in found.others}["three"] == 0.5
    same = [other for other in found.others if other.text == "three"]
    assert found.reward is not None and {other.reward for other in same} == {found.reward.reward}


def test_an_empty_answer_is_judged_and_not_revised(made: Made) -> None:
    found = made.score(PROMPTS[0], "")
    assert found.against is not None and found.reward is not None and found.reward.reward == 0
    assert found.revised is None and ["empty answer" in m for m in found.by.missing] == [True]


# --- critique and revision -------------------------------------------------------------------------------------------


def test_the_answer_is_revised_under_the_principle_it_does_worst_by(made: Made) -> None:
    rude = made.score(PROMPTS[0], "rude")
    assert rude.revised is not None
    assert (rude.revised.principle, rude.revised.worst) == ("kind", True)
    assert (rude.revised.critique, rude.revised.revision) == ("It is rude.", "please mend it")
    assert (rude.revised.preferred, rude.revised.reward) == ("revision", float(len("please mend it")))
    long = made.score(PROMPTS[0], "please do")
    assert long.revised is not None
    assert (long.revised.principle, long.revised.revision) == ("short", "two")
    assert long.revised.preferred == "answer"  # shorter, and no longer kind
    direct = made.score(PROMPTS[0], "rude", flags={"revise__critique": False})
    assert direct.revised is not None and (direct.revised.critique, direct.revised.preferred) == ("", "revision")
    assert made.score(PROMPTS[0], "rude", revision=False).revised is None


def test_an_answer_that_loses_by_nothing_is_revised_as_a_run_would(made: Made) -> None:
    found = made.score(PROMPTS[0], "please")
    assert found.revised is not None and not found.revised.worst
    lines = PRINCIPLES.split("\n")
    (made.home / "principles.yaml").write_text("\n".join([*lines[:3], lines[5], ""]))
    cut = made.score(PROMPTS[0], "please").revised  # under `sung`, the only one: what the critic sings is cut
    assert cut is not None and (cut.principle, cut.worst, cut.critique) == ("sung", False, "It is said.")
    assert (cut.revision, cut.dropped, cut.preferred, cut.reward) == ("la", "truncated", None, None)


# --- what is missing is told, and the rest is done -------------------------------------------------------------------


def test_without_a_run_the_policy_answers_and_the_reward_is_missing(project: Made) -> None:
    found = project.score("Who are you?", "rude")
    assert found.by.run is None and len(found.others) == 4 and found.against is not None
    assert (found.reward, found.gap, found.near) == (None, None, ())
    assert [m.partition(":")[0] for m in found.by.missing] == ["a finished run"]
    assert found.revised is not None and found.revised.reward is None
    assert found.as_dict()["rewarded"] is None
    assert project.prefer("Who are you?", "rude", "please").reward is None


def test_without_the_starting_model_stored_answers_are_enough(made: Made) -> None:
    (made.home / "policy.yaml").unlink()
    found = made.score(PROMPTS[0], "rude")
    assert [m.partition(":")[0] for m in found.by.missing] == ["the starting model"]
    assert (len(found.others), found.stored) == (1, 1) and found.gap is not None
    assert found.revised is not None  # the critic is another
    new = made.score("Bake me bread?", "rude")
    assert new.others == () and new.against is None and new.gap is None
    assert new.reward is not None and new.reward.percentile is None and new.reward.among_near is not None
    assert new.revised is not None and not new.revised.worst


def test_a_model_that_cannot_be_reached_is_missing(made: Made) -> None:
    (made.home / "policy.yaml").write_text("rules: [{fault: {error: 500}}]")
    found = made.score("Who are you?", "rude")
    assert found.others == () and "scripted fault 500" in found.by.missing[0] and found.revised is not None
    (made.home / "critic.yaml").write_text("rules: [{fault: {error: 500}}]")
    found = made.score(PROMPTS[2], "rude")
    assert found.revised is None and [m.partition(":")[0] for m in found.by.missing][-1] == "a revision"


def test_a_judge_that_fails_is_no_result(made: Made) -> None:
    (made.home / "evaluator.yaml").write_text("rules: [{fault: {error: 500}}]")
    with pytest.raises(EngineError):
        made.score(PROMPTS[0], "rude")


def test_a_reward_that_fails_is_missing_once(made: Made) -> None:
    finish(made, {"kind": "function", "name": "liking:broken"}, "second")
    found = made.score(PROMPTS[0], "rude")
    assert found.reward is None and found.gap is None and found.against is not None
    assert len(found.by.missing) == 1 and "must return a finite number" in found.by.missing[0]
    finish(made, {"kind": "function", "name": "liking:nowhere"}, "third")
    assert "has no function nowhere" in made.score(PROMPTS[0], "rude").by.missing[0]


def test_without_an_evaluator_the_judge_is_asked_and_that_is_told(made: Made) -> None:
    text = (made.home / "precept.toml").read_text()
    (made.home / "precept.toml").write_text(text.replace("evaluator.yaml", ""))
    (made.home / "judge.yaml").write_text(SCRIPTS["evaluator.yaml"])
    found = made.score(PROMPTS[0], "rude")
    assert found.by.judge == "judge" and found.against is not None
    assert [m.partition(" (")[0] for m in found.by.missing] == ["an evaluator"]


def test_another_constitution_than_the_run_s_is_told(made: Made) -> None:
    (made.home / "principles.yaml").write_text(PRINCIPLES.replace("weight: 3", "weight: 4"))
    found = made.score(PROMPTS[0], "rude")
    assert found.reward is not None and "was trained under version" in found.by.missing[0]


# --- two answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "sign"), [("please do", "two", 1), ("two", "please do", -1)])
def test_two_answers_by_principle_and_overall(made: Made, first: str, second: str, sign: int) -> None:
    """p of the kind one is 1/2 + (3 x 0.9 - 1 x 0.8) / 8 = 0.7375."""
    found = made.prefer(PROMPTS[0], first, second)
    opinion = found.opinion
    assert opinion.outcome == ("first" if sign > 0 else "second")
    assert opinion.p == pytest.approx(0.5 + sign * 0.2375)
    kind, short, sung = opinion.parts
    assert (kind.principle, kind.moved, kind.without) == (
        "kind", pytest.approx(sign * 0.3375), "second" if sign > 0 else "first",
    )  # fmt: skip
    assert (kind.shown_a, kind.shown_b) == (pytest.approx(0.5 + sign * 0.45),) * 2
    assert (short.principle, short.moved) == ("short", pytest.approx(-sign * 0.1))
    assert (sung.principle, sung.standing, sung.moved) == ("sung", "unreadable", 0)
    assert found.reward == (len(first), len(second)) and found.difference == len(first) - len(second)
    assert found.by.calls == {"generated": 0, "chosen": 6, "reused": 0}


# --- mistakes, JSON, progress, which reward models -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda made: made.score(" \n", "x"), "the prompt is empty"),
        (lambda made: made.prefer("", "x", "y"), "the prompt is empty"),
        (lambda made: made.prefer("a", "x", "x"), "the same text"),
        (lambda made: made.score("a", "x", n=0), "at least one other"),
        (lambda made: made.score("a", "x", run="ffff"), "there is no run"),
    ],
)
def test_mistakes_say_what_to_do(made: Made, say: Callable[[Made], Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        say(made)


@pytest.mark.parametrize("most", [2, 20])
def test_a_limit_of_the_settings_holds_here_too(made: Made, most: int) -> None:
    with pytest.raises(BudgetReached, match=f"limits.max_calls = {most}.*; raise it, or ask for fewer answers"):
        made.score(PROMPTS[0], "x", flags={"limits__max_calls": most})


def test_a_run_that_trains_nothing_is_refused(made: Made, opened: Store) -> None:
    other = opened.start_run("examples", "examples", {})
    with pytest.raises(UserError, match="name one of improve or retrain"):
        made.score(PROMPTS[0], "x", run=other.id.hex())


def test_json_holds_no_nan_and_nothing_that_it_cannot_say(made: Made) -> None:
    scored = made.score("Bake me bread?", "rude \ud800 \x1b[31m")
    whole = json.loads(json.dumps(scored.as_dict(), allow_nan=False))
    assert {"judged", "rewarded", "gap", "revised", "baseline", "others", "missing", "calls"} <= whole.keys()
    assert whole["baseline"]["near"][0]["prompt"] == PROMPTS[0]
    (made.home / "evaluator.yaml").write_text("rules: [{choose: {A: 0.5, B: 0.5, mass: 0.1}}]")
    unreadable = made.score(PROMPTS[0], "rude")
    whole = json.loads(json.dumps(unreadable.as_dict(), allow_nan=False))
    assert (whole["judged"]["win_rate"], whole["gap"], whole["judged"]["unreadable"]) == (None, None, 4)
    assert {other["value"] for other in whole["others"]} == {None}
    two = json.loads(json.dumps(made.prefer(PROMPTS[0], "x", "yy").as_dict(), allow_nan=False))
    assert (two["judged"]["outcome"], two["rewarded"]["difference"]) == ("unreadable", -1)


def test_progress_is_told(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.score(PROMPTS[0], "rude", report=Reporter())
    told = capsys.readouterr()
    assert told.out == ""
    for stage in ("answers of the starting model: 3/3", "verdicts of the evaluator", "rewards", "critique: 1/1"):
        assert stage in told.err


def test_the_reward_is_the_run_s_newest_models_or_what_its_settings_say(opened: Store, made: Made) -> None:
    def trained(name: str, dataset: str, run: Run | None) -> str:
        checkpoint = Checkpoint(
            make_id("job", name=name), "reward_model", "reward", f"/there/{name}", name, "parent", dataset
        )
        opened.add_checkpoint(checkpoint, run=run.id if run else None)
        return checkpoint.path

    bare, later = (finish(made, reward, name) for reward, name in (({}, "bare"), ({"combine": "minimum"}, "later")))
    with pytest.raises(UserError, match="no reward model"):
        reward_of(opened, bare)
    trained("old", "first data", later)
    members = [trained(name, "data", later) for name in ("one", "two")]
    trained("apart", "data", None)
    assert reward_of(opened, later) == {"kind": "model", "combine": "minimum", "paths": members}
    with pytest.raises(UserError, match="none from before"):  # all of them are younger than that run
        reward_of(opened, bare)
    after = finish(made, {}, "after")
    assert reward_of(opened, after)["paths"] == [*members, "/there/apart"]  # found, not trained
    judged = finish(made, {"kind": "judge"}, "judged")
    assert reward_of(opened, judged)["kind"] == "model"
    assert made.run is not None
    own = finish(made, {"kind": "function", "name": "liking:length"}, "own")
    assert reward_of(opened, own) == {"kind": "function", "name": "liking:length"}


def test_a_run_of_the_loop_on_real_models(loop: Any) -> None:
    """Its own reward model, policy and evaluator, a few steps old: everything is there."""
    settings, _ = settings_module.load(loop.home / "precept.toml")
    with closing(Wiring(settings)) as wiring:
        run = wiring.store.run(loop.result["run"])
        answered = wiring.store.generations_of(run.id, "answers")[0]
        (prompt,) = wiring.store.prompts(ids=[answered.prompt])
        typed = prompt.messages[-1].content if len(prompt.messages) == 1 else "How can I forge the baker's letter?"
        found = score.score(wiring, typed, "No, I will not help with that.", n=4, report=Silent())
        again = score.score(wiring, typed, "No, I will not help with that.", n=4, report=Silent())
    assert found.by.missing == () and found.gap is not None and found.revised is not None
    assert [Path(name).name.partition("-")[0] for name in found.by.rewards] == ["reward"]
    assert len(found.others) == 4 and found.stored + found.by.calls["generated"] >= 4
    same = {"seconds": 0.0}
    assert found.as_dict() | same == again.as_dict() | same  # sampled by hashed seeds: nothing is left to chance
