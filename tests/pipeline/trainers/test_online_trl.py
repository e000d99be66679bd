"""RLOO and GRPO: one recorded update by hand, what they learn, what holds them, and that a resumed run is the same."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline.trainers import online
from pipeline.trainers.progress import NAME, Interruption, read
from pipeline.trainers.rollouts import Rollout
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job, TrainingStopped

METHODS = ["rloo", "grpo"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
MakeOnline = Callable[..., Job]

REWARDS = '''
def letters(prompts, answers):
    """The letters e of an answer."""
    return [float(answer.count("e")) for answer in answers]

def against(prompts, answers):
    return [-float(answer.count("e")) for answer in answers]

def broken(prompts, answers):
    return [float("nan") for _ in answers]
'''


@pytest.fixture
def make_online(
    make_job: Callable[..., Job], sample_rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeOnline:
    """`make_online("rloo", "name", reward="letters", watch={...}, ...)`: 6 prompts, 2 an update, 4 answers to each."""
    (tmp_path / "e_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)

    def make(method: str, name: str = "out", **options: Any) -> Job:
        reward = options.pop("reward", "letters")
        watch = options.pop("watch", None)
        rows = options.pop("rows", None) or [{"prompt": row["prompt"]} for row in sample_rows("dpo", 6)]
        quick = {"max_completion_length": 8, "num_generations": 4, "per_device_train_batch_size": 8, "max_steps": 4}
        job = make_job(method, name, rows=rows, **{**quick, **options})
        spec = {"kind": "function", "name": f"e_rewards:{reward}"} if reward else None
        return Job(**{**vars(job), "reward": spec, "watch": watch})

    return make


def curve(job: Job, name: str) -> list[float]:
    return [line[name] for line in read(Path(job.out) / NAME)]


def weights(folder: str | Path) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in load_file(Path(folder) / "model.safetensors").values()])


def token_logprobs(folder: str | Path, answer: Rollout) -> torch.Tensor:
    """Of one answer's tokens: no padding, no batch, plain softmax."""
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[*answer.prompt_ids, *answer.ids]])
    with torch.no_grad():
        logprobs = AutoModelForCausalLM.from_pretrained(folder)(ids).logits[0].log_softmax(-1)
    start = len(answer.prompt_ids)
    return logprobs[torch.arange(start - 1, ids.shape[1] - 1), ids[0, start:]]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Rollout]]:
    """The answers of every update, in order."""
    seen: list[Sequence[Rollout]] = []
    sample = online.InProcess.sample

    def spy(self: Any, *args: Any) -> list[Rollout]:
        answers = sample(self, *args)
        seen.append(answers)
        return answers

    monkeypatch.setattr(online.InProcess, "sample", spy)
    return seen


# --- the losses --------------------------------------------------------------------------------------------------


def rloo_loss(rewards: list[float], old: Any, new: Any, reference: Any, beta: float) -> float:
    penalised = [r - beta * float((o - ref).sum()) for r, o, ref in zip(rewards, old, reference, strict=True)]
    losses = []
    for index, value in enumerate(penalised):
        group = range(index // 4 * 4, index // 4 * 4 + 4)
        advantage = value - sum(penalised[other] for other in group if other != index) / 3
        ratio = math.exp(float((new[index] - old[index]).sum()))
        losses.append(-min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
    return sum(losses) / len(losses)


def grpo_loss(rewards: list[float], old: Any, new: Any, reference: Any, beta: float) -> float:
    losses = []
    for index, reward in enumerate(rewards):
        group = rewards[index // 4 * 4 : index // 4 * 4 + 4]
        advantage = (reward - statistics.mean(group)) / (statistics.stdev(group) + 1e-4)
        tokens = []
        for o, n, ref in zip(old[index].tolist(), new[index].tolist(), reference[index].tolist(), strict=True):
            ratio = math.exp(n - o)
            surrogate = -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
            tokens.append(surrogate + beta * ratio * (math.exp(ref - n) - (ref - n) - 1))
        losses.append(sum(tokens) / len(tokens))
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("method", "by_hand"), [("rloo", rloo_loss), ("grpo", grpo_loss)])
def test_a_recorded_update_by_hand(
    method: str, by_hand: Any, make_online: MakeOnline, model: Path, recorded: list[Sequence[Rollout]]
) -> None:
    """Steps 3 and 4 share the answers that the weights after step 2 gave; the loss of step 4 has ratios other than 1
    and a policy that has left its reference."""
    options = {"num_iterations": 2, "beta": 0.3, "learning_rate": 3e-3}
    jobs = {steps: make_online(method, f"after-{steps}", max_steps=steps, **options) for steps in (2, 3, 4)}
    for job in jobs.values():
        run(job)
    answers = recorded[-1]
    assert len(answers) == 8
    assert [list(a.ids) for a in answers] == [list(a.ids) for a in recorded[-3]]  # the run of 3 steps had the same
    old, new, reference = (
        [token_logprobs(folder, answer) for answer in answers] for folder in (jobs[2].out, jobs[3].out, model)
    )
    rewards = [float(answer.text.count("e")) for answer in answers]
    assert len(set(rewards)) > 1
    expected = by_hand(rewards, old, new, reference, 0.3)
    assert abs(expected) > 0.005
    assert curve(jobs[4], "loss")[-1] == pytest.approx(expected, abs=1e-5)
    sampled = read(Path(jobs[4].out) / NAME)[2]
    assert sampled["reward"] == pytest.approx(sum(rewards) / 8)
    assert sampled["length"] == pytest.approx(sum(len(a.ids) for a in answers) / 8)
    if method == "rloo":
        kl = sum(float((o - ref).sum()) for o, ref in zip(old, reference, strict=True)) / 8
        assert abs(kl) > 0.01
        assert sampled["kl"] == pytest.approx(kl, abs=1e-4)


# --- learning and the KL coefficient ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_what_is_rewarded_and_a_strong_beta_holds_it(method: str, make_online: MakeOnline) -> None:
    """The first update is made at the reference, where there is no KL to pay for: what it did the beta then keeps."""
    options = {"max_steps": 12, "learning_rate": 1e-2, "per_device_train_batch_size": 32, "num_generations": 8}
    loose = make_online(method, "loose", beta=1e-6, **options)
    held = make_online(method, "held", beta=1e3, **options)
    run(loose)
    run(held)
    start = statistics.mean(curve(loose, "reward")[:2])
    assert statistics.mean(curve(loose, "reward")[-3:]) > start + 1.5
    assert statistics.mean(curve(held, "reward")[-3:]) < start + 0.5
    kl = curve(held, "kl")
    assert kl[0] == pytest.approx(0, abs=1e-5)
    assert statistics.mean(kl[-3:]) < 2 * kl[1]
    assert statistics.mean(kl[-3:]) < 0.33 * statistics.mean(curve(loose, "kl")[-3:])


@pytest.mark.parametrize("method", METHODS)
def test_it_starts_at_its_parent_and_not_at_the_base_below_it(
    method: str, make_online: MakeOnline, make_job: Any
) -> None:
    below = make_job("sft", "below", lora=LORA, learning_rate=3e-2)
    run(below)
    for name, lora in (("full", None), ("lora", LORA)):
        job = make_online(method, name, model=below.out, lora=lora, beta=0.1, max_steps=2, learning_rate=1e-2)
        run(job)
        kl = curve(job, "kl")
        assert kl[0] == pytest.approx(0, abs=1e-5)
        assert abs(kl[1]) > 1e-4


# --- the same run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "lora"), [("rloo", None), ("grpo", None), ("grpo", LORA)])
def test_a_resumed_run_is_the_same_run(method: str, lora: dict[str, Any] | None, make_online: MakeOnline) -> None:
    """Three updates are an epoch: it is resumed in the second."""
    options = {"lora": lora, "max_steps": 8, "learning_rate": 1e-2, "beta": 0.1}
    whole, parts = make_online(method, "whole", **options), make_online(method, "parts", **options)
    expected = run(whole)
    interruption = Interruption()

    def ctrl_c(line: dict[str, Any]) -> None:
        if line["step"] == 4:
            interruption()

    with pytest.raises(KeyboardInterrupt):
        run(parts, on_step=ctrl_c, interruption=interruption)
    resumed = run(parts)
    for name in ("loss", "reward", "kl", "entropy", "length"):
        assert curve(parts, name) == pytest.approx(curve(whole, name), abs=1e-6)
    assert len(set(curve(whole, "entropy"))) == 8
    assert resumed.digest == expected.digest


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_eight_is_four_twice(method: str, make_online: MakeOnline) -> None:
    options = {"max_steps": 3, "learning_rate": 3e-3, "beta": 0.1}
    whole = make_online(method, "whole", per_device_train_batch_size=8, **options)
    pieces = make_online(method, "pieces", per_device_train_batch_size=4, gradient_accumulation_steps=2, **options)
    run(whole)
    run(pieces)
    for name in ("loss", "reward", "grad_norm"):
        assert curve(pieces, name) == pytest.approx(curve(whole, name), rel=1e-3, abs=1e-5)
    assert torch.allclose(weights(pieces.out), weights(whole.out), atol=2e-5)


def test_the_folders_way_of_sampling_is_kept_and_not_followed(
    make_online: MakeOnline, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    settings = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps({**settings, "repetition_penalty": 9.0}))
    plain, told = make_online("rloo", "plain"), make_online("rloo", "told", model=str(other))
    run(plain)
    run(told)
    assert curve(told, "reward") == curve(plain, "reward")
    assert json.loads((Path(told.out) / "generation_config.json").read_text())["repetition_penalty"] == 9


# --- watched -----------------------------------------------------------------------------------------------------


@pytest.fixture
def watch(tmp_path: Path, sample_rows: Any) -> Callable[..., dict[str, Any]]:
    def make(judge: str = "letters", **options: Any) -> dict[str, Any]:
        rows = [{"prompt": row["prompt"], "answer": "the cat"} for row in sample_rows("dpo", 8)]
        (tmp_path / "watch.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        judged = {"kind": "function", "name": f"e_rewards:{judge}"}
        return {"dataset": str(tmp_path / "watch.jsonl"), "judge": judged, "every": 2, **options}

    return make


@pytest.mark.parametrize(("method", "lora"), [("rloo", LORA), ("grpo", None)])
def test_a_run_without_a_beta_is_watched_against_where_it_began(
    method: str, lora: dict[str, Any] | None, make_online: MakeOnline, watch: Any
) -> None:
    options = {"beta": 0.0, "lora": lora, "learning_rate": 1e-2}
    seen = make_online(method, "seen", watch=watch(), **options)
    metrics = run(seen).metrics
    looks = read(Path(seen.out) / "watch.jsonl")
    assert [look["step"] for look in looks] == [0, 2, 4]
    assert looks[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert looks[-1]["kl"] > 1e-3
    assert metrics["watch_stopped"] == ""
    unseen = make_online(method, "unseen", **options)
    run(unseen)
    assert curve(unseen, "loss") == curve(seen, "loss")  # to be looked at changes nothing


def test_a_run_over_its_budget_ends_with_its_last_good_weights(make_online: MakeOnline, watch: Any) -> None:
    job = make_online("rloo", watch=watch(kl_budget=0.05), beta=0.0, learning_rate=1e-2, max_steps=20)
    metrics = run(job).metrics
    assert metrics["watch_stopped"]
    assert metrics["steps"] < 20
    assert metrics["watch_kept_step"] < metrics["steps"]


def test_a_loss_that_is_not_finite_falls_back_to_good_weights(make_online: MakeOnline, watch: Any, model: Path) -> None:
    wild = {"learning_rate": 1e20, "save_steps": 1}
    with pytest.raises(TrainingStopped, match=r"is (nan|inf)"):
        run(make_online("rloo", "unwatched", **wild))
    job = make_online("rloo", "watched", watch=watch(), **wild)
    metrics = run(job).metrics
    assert metrics["watch_stopped"] and metrics["watch_kept_step"] == 0
    assert torch.equal(weights(job.out), weights(model))


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": None}, "learns from a reward; name one"),
        ({"reward": "broken"}, "nan"),
        ({"num_generations": 3}, "an update has 8 answers .* num_generations 3 does not divide"),
        ({"num_generations": 1}, "num_generations is 1; .* 2 or more"),
        ({"beta": math.inf}, "beta is inf"),
        ({"top_p": 0.9}, "grpo does not read top_p"),
        ({"num_generation": 4}, "does not read num_generation; did you mean num_generations"),
        ({"gradient_accumulation_steps": 8}, r"6 prompts, and an update takes 16 different ones"),
        ({"max_completion_length": 127}, r"line \d+: after a prompt of \d+ tokens the model has room for \d+"),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], message: str, make_online: MakeOnline) -> None:
    with pytest.raises(UserError, match=message):
        run(make_online("grpo", **options))
