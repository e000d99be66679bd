"""Best-of-n: the winners, the KL of choosing them against exact enumeration, and a run that resumes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline import trainers
from pipeline.models import checkpoint
from pipeline.rewards.function import FunctionReward
from pipeline.trainers import best_of_n
from pipeline.trainers.best_of_n import best, figures, kl_bound, kl_estimate
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
WORDS = "the a baker cat dog sings runs blue red apple help with please thanks lock open door window".split()
REWARD = {"kind": "function", "name": "rewarded_words:score"}
SCORES = """
from pathlib import Path
calls = Path(__file__).with_name("calls")
def score(prompts, answers):
    with calls.open("a") as file:
        file.write(f"{len(answers)}\\n")
    return [float(sum(character in "aeiou" for character in answer)) for answer in answers]
def judge(prompts, answers):
    return [1 / (1 + len(answer)) for answer in answers]
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "rewarded_words.py").write_text(SCORES)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield tmp_path / "code"
    sys.modules.pop("rewarded_words", None)


@pytest.fixture(scope="module")
def talker(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after enough SFT to speak the few words and, most of the time, to end."""
    folder = tmp_path_factory.mktemp("talker")
    draw = random.Random(2)
    talk = [
        {
            "prompt": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=3))}],
            "completion": [{"role": "assistant", "content": " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))}],
        }
        for _ in range(64)
    ]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talk))
    arguments = {"learning_rate": 1e-2, "num_train_epochs": 8, "warmup_steps": 0}
    out = str(folder / "talker")
    run(Job("talk", "sft", str(model), out, str(folder / "talk.jsonl"), arguments, device="cpu"))
    return Path(out)


@pytest.fixture
def best_job(talker: Path, make_job: MakeJob, code: Path, sample_rows: Callable[..., Any]) -> MakeJob:
    def make(name: str = "out", **options: Any) -> Job:
        rows = [{"prompt": row["prompt"]} for row in sample_rows("prompts", count=12)]
        given = {"n": 4, "max_completion_length": 8, "model": str(talker), **options}
        return dataclasses.replace(make_job("best_of_n", name, rows=rows, **given), reward=REWARD)

    return make


# --- the arithmetic ----------------------------------------------------------------------------------------------


def test_the_bound() -> None:
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(math.log(2) - 0.5)
    assert kl_bound(16) == pytest.approx(1.8351, abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_the_estimate_is_the_bound_at_0_and_nothing_at_1(n: int) -> None:
    assert kl_estimate(0.0, n) == pytest.approx(kl_bound(n))
    assert kl_estimate(1e-12, n) == pytest.approx(kl_bound(n), abs=1e-9)
    assert kl_estimate(1.0, n) == 0
    values = [kl_estimate(e, n) for e in np.linspace(0, 1, 101)]
    assert max(values) <= kl_bound(n) + 1e-12 and min(values) >= -1e-12


def test_the_estimate_by_hand() -> None:
    """e = 1/2, n = 2: 1/4 (log 2 + log 1/2 - 1/2) + 3/4 log(3/4 / 1/2)."""
    assert kl_estimate(0.5, 2) == pytest.approx(-0.125 + 0.75 * math.log(1.5))


def exact(p: list[float], reward: list[float], n: int) -> float:
    """The KL of best-of-n to p by all sequences of n draws, the first of equal rewards winning."""
    q = np.zeros(len(p))
    for draws in itertools.product(range(len(p)), repeat=n):
        winner = max(draws, key=lambda y: reward[y])
        q[winner] += math.prod(p[y] for y in draws)
    return float(sum(a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0))


WORLDS = [
    ([0.4, 0.3, 0.2, 0.1], [0.0, 1.0, 2.0, 3.0]),
    ([0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 2.0, 3.0]),
    ([0.25] * 4, [0.0, 0.0, 1.0, 1.0]),  # ties
    ([0.05, 0.35, 0.2, 0.4], [1.0, 0.0, 0.0, 1.0]),
    ([0.25] * 4, [1.0, 1.0, 1.0, 1.0]),  # nothing to choose: KL 0
]


@pytest.mark.parametrize(("p", "reward"), WORLDS)
@pytest.mark.parametrize("n", [2, 4, 6])
def test_the_estimate_against_the_true_kl(p: list[float], reward: list[float], n: int) -> None:
    """Few answers, all enumerable: the hardest case, where the bound is far off. Over 4,000 prompts the estimate is
    within 0.12 nats of the truth (the paper's own formula, given the winner's class exactly, is up to 0.06 above), and
    never above the bound."""
    draw = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        answers = draw.choice(len(p), size=n, p=p)
        rewards = [reward[y] for y in answers]
        winner = best(rewards)
        assert winner is not None
        drawn.append({"rewards": rewards, "winner": winner, "logp": math.log(p[answers[winner]])})
    found, truth = figures(drawn, n), exact(p, reward, n)
    assert truth <= found["kl_bound"]
    assert 0 <= found["kl_estimate"] <= found["kl_bound"]
    assert found["kl_estimate"] == pytest.approx(truth, abs=0.12)


def test_the_first_of_the_highest_wins() -> None:
    assert best([0.0, 3.0, None, 3.0]) == 1
    assert best([None, -2.0, -1.0]) == 2
    assert best([None, None]) is None


def test_figures_by_hand() -> None:
    drawn = [
        {"rewards": [1.0, 3.0], "winner": 1, "logp": -800.0},
        {"rewards": [2.0, None], "winner": 0, "logp": -800.0},
        {"rewards": [None, None], "winner": None},
    ]
    found = figures(drawn, 2)
    assert found == {
        "reward_mean": 2.0, "reward_winners": 2.5, "cut": 0.5, "no_winner": 1,
        "kl_bound": kl_bound(2), "kl_estimate": pytest.approx(kl_bound(2)),
    }  # fmt: skip


# --- runs --------------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_a_method() -> None:
    assert "best_of_n" in trainers.methods()
    method = trainers.load("best_of_n")
    assert (best_of_n.ONLINE, best_of_n.COEFFICIENT, method.COLUMNS) == (True, "n", ("prompt",))


def test_a_run_learns_the_winners(best_job: MakeJob, talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_of_n.shutil, "rmtree", lambda *a, **k: None)  # the resume state stays, to be looked at
    job = best_job(learning_rate=3e-3, num_train_epochs=4)
    manifest = run(job)
    drawn, winners = rows(job.resume / "drawn.jsonl"), rows(Path(job.out) / "winners.jsonl")
    assert len(drawn) == 12 and all(len(line["rewards"]) == 4 for line in drawn)
    whole = [[r for r in line["rewards"] if r is not None] for line in drawn]
    assert [row["reward"] for row in winners] == [max(r) for r in whole if r]
    for row in winners:
        text = row["completion"][0]["content"]
        assert row["reward"] == sum(character in "aeiou" for character in text)
    metrics = manifest.metrics
    assert metrics["no_winner"] == sum(not r for r in whole) and metrics["rows"] == len(winners)
    assert metrics["cut"] == pytest.approx(1 - sum(map(len, whole)) / 48)
    assert metrics["cut"] > 0  # or the case is not tried
    assert metrics["reward_winners"] > metrics["reward_mean"]
    assert 0 <= metrics["kl_estimate"] <= metrics["kl_bound"] == kl_bound(4)
    assert metrics["kl"] > 0
    before, after = load_file(talker / "model.safetensors"), load_file(Path(job.out) / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not (Path(job.out) / "watch.jsonl").exists()


def test_resuming_does_not_draw_again(best_job: MakeJob, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_of_n, "AT_ONCE", 16)  # four prompts
    job = best_job()
    whole = run(job)
    assert (code / "calls").read_text().count("\n") == 3
    (code / "calls").unlink()
    again = best_job("again")
    again.resume.mkdir()
    score, asked = FunctionReward.score, []

    def dies(reward: FunctionReward, prompts: Any, answers: Any) -> Any:
        asked.append(len(answers))
        if len(asked) == 3:
            raise UserError("the server is gone")
        return score(reward, prompts, answers)

    monkeypatch.setattr(FunctionReward, "score", dies)
    with pytest.raises(UserError, match="the server is gone"):
        run(again)
    with (again.resume / "drawn.jsonl").open("a") as file:
        file.write('{"job": "best_of_n-aga')  # cut short
    monkeypatch.setattr(FunctionReward, "score", score)
    second = run(again)
    assert (code / "calls").read_text().count("\n") == 3  # two before, one after
    timeless = ("seconds", "peak_memory_mb")
    for name in whole.metrics.keys() - set(timeless):
        assert second.metrics[name] == pytest.approx(whole.metrics[name], abs=1e-6), name
    assert (Path(again.out) / "winners.jsonl").read_text() == (Path(job.out) / "winners.jsonl").read_text()


@pytest.mark.parametrize("adapter", [True, False])
def test_a_run_with_an_evaluation_callback(best_job: MakeJob, tmp_path: Path, adapter: bool) -> None:
    """Measured at every step; a KL budget that nothing can keep gives the parent back."""
    watch = tmp_path / "watched.jsonl"
    prompts = rows(Path(best_job("prompts").dataset))
    watch.write_text("".join(json.dumps({**row, "answer": "the cat"}) + "\n" for row in prompts))
    spec = {"dataset": str(watch), "judge": {"kind": "function", "name": "rewarded_words:judge"}, "every": 1}
    lora = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} if adapter else None
    free = best_job("free", lora=lora, learning_rate=1e-2)
    manifest = run(dataclasses.replace(free, watch=spec))
    evaluations = rows(Path(free.out) / "watch.jsonl")
    assert [evaluation["step"] for evaluation in evaluations] == list(range(manifest.metrics["steps"] + 1))
    assert evaluations[0]["kl"] == pytest.approx(0, abs=1e-5) and evaluations[-1]["kl"] > 0.01
    assert len(rows(Path(free.out) / "samples.jsonl")) == 12 * len(evaluations)
    assert manifest.metrics["watch_stopped"] == ""
    held = best_job("held", lora=lora, learning_rate=1e-2)
    stopped = run(dataclasses.replace(held, watch={**spec, "kl_budget": 1e-3})).metrics
    assert (stopped["watch_stopped"], stopped["steps"]) == ("kl over budget", stopped["watch_steps"])
    assert stopped["steps"] < manifest.metrics["steps"] and abs(stopped["kl"]) < 0.02 < manifest.metrics["kl"]
    assert checkpoint.read(Path(held.out)) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0; it must be a whole number"),
        ({"n": 2.5}, "n is 2.5"),
        ({"temperature": 0}, "temperature is 0; it must be a finite number above 0"),
        ({"max_completion_length": 1}, "all 4 answers to every prompt were cut .* raise max_completion_length"),
        ({"learning_rat": 1.0}, "best_of_n does not read learning_rat; did you mean learning_rate"),
    ],
)
def test_mistakes_are_told(best_job: MakeJob, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(best_job(**options))


def test_a_job_without_a_reward(best_job: MakeJob) -> None:
    with pytest.raises(UserError, match="best_of_n needs a reward"):
        run(dataclasses.replace(best_job(), reward=None))
