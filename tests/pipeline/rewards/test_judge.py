"""The judge as a reward: hand-worked rewards, and the store's labels from the same verdicts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import (
    PROBABILITY,
    Comparison,
    Generation,
    LabelRule,
    Message,
    Prompt,
    Question,
    Ruling,
    Verdict,
    make_id,
)
from pipeline import rewards
from pipeline.judges.judge import Case, Judged
from pipeline.rewards.judge import JudgeReward, probabilities
from storage.store import Store
from tests.pipeline.engines.protocol_server import quick, running

ASKED = (Message("user", "How do I bake?"),)
ROW = [{"role": "user", "content": "How do I bake?"}]
KIND = Principle("kind", "Be kind", "Rude?", "Be kind.", "Which reply is kinder?", weight=3000)
SHORT = Principle("short", "Be short", "Long?", "Be short.", "Which reply is shorter?", weight=1000)
BOTH = Constitution("two", (KIND, SHORT))
PAIR = r"\[Reply A\]\n(?P<a>.*)\n\n\[Reply B\]\n(?P<b>.*)\n\n\[Question\]\n{question}"


class Saying:
    """A judge whose verdict on each (answer text, principle) is written down: (p1, p2, mass), for that answer."""

    fingerprint = "a judge"

    def __init__(self, said: dict[tuple[str, str], tuple[float, float, float]]) -> None:
        self.said, self.asked = said, 0

    def question(self, principle: Principle) -> Question:
        return Question(self.fingerprint, {}, principle.comparison, principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        self.asked += len(cases)
        return Judged([self._verdict(case, principle) for case in cases for principle in case.principles])

    def _verdict(self, case: Case, principle: Principle) -> Verdict:
        side = next(text for text in (case.first, case.second) if (text, principle.id) in self.said)
        p1, p2, mass = self.said[side, principle.id]
        if side == case.second:  # p1: the comparison's first answer was shown as A
            p1, p2 = 1 - p2, 1 - p1
        numbers = [round(number * PROBABILITY) for number in (p1, p2, mass, mass)]
        return Verdict(self.question(principle).id, case.comparison.id, *numbers)


def reward(said: dict[tuple[str, str], tuple[float, float, float]], rule: LabelRule | None = None) -> JudgeReward:
    against = {Prompt(ASKED, "train").id: ["stored"]}
    return JudgeReward(Saying(said), BOTH, against, Ruling(rule=rule), "digest")


CASES = {
    # s = 0.8 of weight 3, -0.6 of weight 1: 1/2 + (2.4 - 0.6) / 8
    "both vote": ({"kind": (0.9, 0.9, 1.0), "short": (0.2, 0.2, 1.0)}, 0.725),
    "one order flips": ({"kind": (0.9, 0.2, 1.0), "short": (0.2, 0.2, 1.0)}, 0.2),
    "under the margin": ({"kind": (0.7, 0.7, 1.0), "short": (0.9, 0.9, 1.0)}, 0.9),
    "all abstain": ({"kind": (0.6, 0.6, 1.0), "short": (0.5, 0.5, 1.0)}, 0.5),
    "a light one is unreadable": ({"kind": (0.9, 0.9, 1.0), "short": (0.1, 0.1, 0.4)}, 0.9),
    "the heavy one is unreadable": ({"kind": (0.9, 0.9, 0.4), "short": (0.1, 0.1, 1.0)}, 0.5),
}


@pytest.mark.parametrize("answer", ["one answer", "another answer", "a third", "and a fourth"])  # either side is first
@pytest.mark.parametrize("name", CASES)
def test_the_probability_that_the_answer_beats_the_stored_one_by_hand(name: str, answer: str) -> None:
    said, expected = CASES[name]
    judged = reward({(answer, principle): numbers for principle, numbers in said.items()})
    assert judged.score([ROW], [answer]) == [pytest.approx(expected, abs=2e-9)]


def test_the_same_text_is_even_and_no_pair_is_judged_twice() -> None:
    judged = reward({("x", "kind"): (0.9, 0.9, 1.0), ("x", "short"): (0.9, 0.9, 1.0)})
    judge = judged._judge
    assert isinstance(judge, Saying)
    assert judged.score([ROW] * 3, ["stored", "x", "x"]) == [0.5, pytest.approx(0.9), pytest.approx(0.9)]
    assert judged.score([ROW], ["x"]) == [pytest.approx(0.9)]
    assert judge.asked == 1


def test_several_stored_answers_are_averaged() -> None:
    against = {Prompt(ASKED, "train").id: ["stored", "x"]}
    said = {("x", "kind"): (0.9, 0.9, 1.0), ("x", "short"): (0.9, 0.9, 1.0)}
    assert JudgeReward(Saying(said), BOTH, against, Ruling(), "d").score([ROW], ["x"]) == [pytest.approx(0.7)]


def test_a_prompt_without_a_stored_answer_is_refused() -> None:
    with pytest.raises(UserError, match=r"no stored answer to the prompt 'Why.'"):
        reward({}).score([[{"role": "user", "content": "Why?"}]], ["x"])


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_stores_label_of_the_same_verdicts(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    prompt = Prompt(ASKED, "train", "test")
    texts = [f"answer {number}" for number in range(21)]
    answers = [
        Generation(make_id("t", text=text), "response", prompt.id, text, "stop", "e", sample=number)
        for number, text in enumerate(texts)
    ]
    pairs = [Comparison.of(prompt.id, answers[0].content, other.content) for other in answers[1:]]
    questions = [Question("judge", {}, f"template {number}") for number in range(4)]
    weights = {question.id: draw.choice([0, 1, 250, 1000, 5000]) for question in questions}
    weights[questions[0].id] = 1000
    half = PROBABILITY // 2
    numbers = [0, half - 1, half, half + 1, PROBABILITY, *(draw.randrange(PROBABILITY) for _ in range(5))]
    verdicts = [
        Verdict(question.id, pair.id, *(draw.choice(numbers) for _ in range(2)), *(draw.choice(numbers) for _ in "12"))
        for pair in pairs
        for question in questions
    ]
    rule = LabelRule(draw.choice([0, 0.5]), draw.random() < 0.5, draw.choice([0, 0.25, 0.5]), draw.choice([0.1, 0.5]))
    with Store.open(tmp_path / "labels.db") as store:
        store.add_prompts([prompt])
        store.add_generations(answers)
        store.add_comparisons(pairs, origins=[[answers[0].id, other.id] for other in answers[1:]])
        store.add_questions(questions)
        store.add_verdicts(verdicts)
        labels = store.labels([pair.id for pair in pairs], weights, rule)
    for pair, label in zip(pairs, labels, strict=True):
        p = probabilities([v for v in verdicts if v.comparison == pair.id], weights, rule).get(pair.id)
        assert (p is None) == (label.state == "unreadable")
        assert round((0.5 if p is None else p) * PROBABILITY) == label.p


# --- from a spec ---


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A scripted judge that likes "please" (kind, weight 3) and "short" (short, weight 1)."""
    rules = [
        {"match": "(?s)" + PAIR.format(question="Which reply is kinder"), "prefer": "please", "p": 0.9},
        {"match": "(?s)" + PAIR.format(question="Which reply is shorter"), "prefer": "short", "p": 0.8},
    ]
    (tmp_path / "judge.jsonl").write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    (tmp_path / "against.jsonl").write_text(json.dumps({"prompt": ROW, "answer": "stored and short"}) + "\n")
    (tmp_path / "principles.yaml").write_text(
        "constitution: two\nversion: 1\nprinciples:\n"
        + "".join(
            f"  - id: {p.id}\n    title: {p.title}\n    critique: Find what is wrong with the reply.\n"
            f"    revision: Rewrite the reply.\n    comparison: {p.comparison}\n    weight: {p.weight / 1000}\n"
            for p in (KIND, SHORT)
        )
    )

    def make(**options: Any) -> dict[str, Any]:
        return {
            "kind": "judge",
            "engine": {"kind": "scripted", "model": str(tmp_path / "judge.jsonl")},
            "constitution": str(tmp_path / "principles.yaml"),
            "against": str(tmp_path / "against.jsonl"),
            **options,
        }

    return make


def test_a_scripted_judge_rewards_through_its_spec(spec: Callable[..., dict[str, Any]]) -> None:
    built = rewards.build(spec())
    # kinder: s = 0.8, weight 3; shorter: the stored one, s = -0.6, weight 1
    assert built.score([ROW, ROW, ROW], ["please", "so short", "stored and short"]) == [
        pytest.approx(0.725),
        0.5,  # both are short: no preference
        0.5,
    ]
    assert built.fingerprint == rewards.fingerprint(spec())
    built.close()


def test_a_judge_on_a_server_finds_its_key_in_the_environment(
    spec: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running(key="sk-secret") as server:
        asked = spec(engine=asdict(quick(server, attempts=1)), api_key_env="JUDGE_KEY")
        with pytest.raises(UserError, match="wants a key"):
            rewards.build(asked).score([ROW], ["please"])
        (tmp_path / "key").write_text("sk-secret\n")
        monkeypatch.setenv("JUDGE_KEY_FILE", str(tmp_path / "key"))
        built = rewards.build(asked)
        assert 0 <= built.score([ROW], ["please"])[0] <= 1
        assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
        monkeypatch.setenv("OTHER_KEY", "sk-secret")
        assert built.fingerprint == rewards.fingerprint({**asked, "api_key_env": "OTHER_KEY"})
        built.close()


def test_the_fingerprint_follows_the_judge_the_constitution_the_rule_and_the_stored_answers(
    spec: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    digests = [rewards.fingerprint(spec())]
    for change in ({"answer_prefix": "("}, {"rule": {"min_margin": 0.0}}, {"template_args": {"thinking": False}}):
        digests.append(rewards.fingerprint(spec(**change)))
    for name, old, new in [
        ("principles.yaml", "weight: 3.0", "weight: 2.0"),
        ("principles.yaml", "kinder?", "kindest?"),
        ("against.jsonl", "stored", "kept"),
        ("judge.jsonl", "0.9", "0.8"),
    ]:
        file = tmp_path / name
        file.write_text(file.read_text().replace(old, new))
        digests.append(rewards.fingerprint(spec()))
    assert len(set(digests)) == len(digests) == 8
    (tmp_path / "principles.yaml").write_text((tmp_path / "principles.yaml").read_text().replace("Be kind", "Kind"))
    assert rewards.fingerprint(spec()) == digests[-1]  # a title is not read by any model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"against": "nowhere.jsonl"}, "there is no file nowhere.jsonl"),
        ({"engine": {"kind": "scripted", "model": "nowhere.yaml"}}, "cannot read the script nowhere.yaml"),
        ({"engine": {"kind": "scripted", "modle": "x"}}, "engine.modle"),
        ({"method": "guess"}, "there is no judge 'guess'"),
        ({"rule": {"min_weight": 1}}, "rule.min_weight"),
        ({"principles": "x"}, "principles: "),
    ],
)
def test_a_mistake_is_told_before_a_model_is_loaded(
    spec: Callable[..., dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        rewards.check(spec(**change))


def test_a_row_of_stored_answers_that_is_none_is_told_with_its_line(
    spec: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with (tmp_path / "against.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": ROW, "answer": ["x"]}) + "\n")
    with pytest.raises(UserError, match=r"line 2: answer\[0\] needs a 'role'"):
        rewards.check(spec())
