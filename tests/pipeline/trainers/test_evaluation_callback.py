"""Stop rules on hand-made evaluation steps, false alarms by simulation, and a real tiny model, stopped and put back."""

from __future__ import annotations

import dataclasses
import json
import math
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import studentized_range

from constitution.errors import UserError
from pipeline.trainers.stop_rules import (
    DIVERGED,
    KL,
    NOT_FINITE,
    PART,
    EvaluationStep,
    best,
    critical,
    decide,
    difference,
    kept,
)
from pipeline.trainers.trainer import Job, TrainingStopped

PROMPTS = 64


def evaluation(
    step: int, proxy: float, judge: float, kl: float = 0.0, spread: float = 0.01, entropy: float = 1.0
) -> EvaluationStep:
    """Means as given; the judge's scores differ from prompt to prompt, and a little from evaluation to evaluation."""
    own = np.random.default_rng(step).normal(0, spread, PROMPTS)
    common = np.linspace(-0.3, 0.3, PROMPTS)
    return EvaluationStep(step, (proxy,) * PROMPTS, tuple(judge + common + own - own.mean()), kl, entropy)


def run_of(*means: tuple[float, float], spread: float = 0.01) -> list[EvaluationStep]:
    return [evaluation(5 * i, proxy, judge, spread=spread) for i, (proxy, judge) in enumerate(means)]


# --- the rules ---------------------------------------------------------------------------------------------------


def test_the_proxy_rises_while_the_judge_falls() -> None:
    evaluations = run_of((0, 0.5), (1, 0.6), (2, 0.55))
    stop = decide(evaluations, planned=9)
    assert stop is not None and stop.rule == PART and stop.step == 10
    assert "since step 5 the proxy rose from 1 to 2, and the judge's score fell from 0.6 to 0.55" in stop.reason
    assert best(evaluations) is evaluations[1]


@pytest.mark.parametrize(
    ("means", "spread"),
    [
        ([(0, 0.5), (1, 0.6), (2, 0.7)], 0.01),  # both rise
        ([(0, 0.5), (1, 0.6), (0.9, 0.3)], 0.01),  # both fall: no hacking of the reward
        ([(0, 0.5), (1, 0.6), (1, 0.5)], 0.01),  # the proxy stands still
        ([(0, 0.5), (1, 0.6), (2, 0.55)], 0.3),  # the same fall, within the noise
    ],
)
def test_no_rule_is_broken(means: list[tuple[float, float]], spread: float) -> None:
    evaluations = run_of(*means, spread=spread)
    assert [decide(evaluations[: i + 1], planned=9) for i in range(len(evaluations))] == [None] * len(evaluations)


def test_the_fall_is_measured_on_paired_prompts() -> None:
    """Prompts differ by far more than the fall; their differences do not."""
    evaluations = run_of((0, 0.6), (1, 0.55))
    fall, error = difference(evaluations[1].judge, evaluations[0].judge)
    assert fall == pytest.approx(-0.05)
    assert error == pytest.approx(np.std(np.subtract(evaluations[1].judge, evaluations[0].judge), ddof=1) / 8)
    unpaired = math.hypot(*(np.std(x.judge, ddof=1) / 8 for x in evaluations))
    assert 10 * error < unpaired and decide(evaluations, planned=9) is not None
    assert difference([0.0], [1.0]) == (-1.0, math.inf)  # one prompt proves nothing


def test_a_kl_over_its_budget() -> None:
    evaluations = [evaluation(0, 0, 0.5), evaluation(5, 1, 0.6, kl=2.0), evaluation(10, 2, 0.7, kl=2.5)]
    assert decide(evaluations, planned=9) is None
    assert decide(evaluations, planned=9, kl_budget=2.5) is None
    stop = decide(evaluations, planned=9, kl_budget=2.4)
    assert stop is not None and str(stop) == (
        "kl over budget: step 10: 2.5 nats a sequence from the reference, the budget is 2.4"
    )
    assert best(evaluations, 2.4) is evaluations[1] and best(evaluations) is evaluations[2]


@pytest.mark.parametrize("field", ["kl", "entropy", "proxy", "judge"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_figure_that_is_not_finite(field: str, bad: float) -> None:
    evaluations = run_of((0, 0.5), (1, 0.6), (2, 0.9))
    value = (bad, *evaluations[-1].proxy[1:]) if field in ("proxy", "judge") else bad
    evaluations[-1] = dataclasses.replace(evaluations[-1], **{field: value})
    stop = decide(evaluations, planned=9)
    assert stop is not None and stop.rule == NOT_FINITE
    assert best(evaluations) is evaluations[1]
    assert best(evaluations[-1:]) is None


def evaluation_at(step: int, *judge: float, kl: float = 0.0) -> EvaluationStep:
    return EvaluationStep(step, (0.0,) * len(judge), judge, kl)


def test_a_look_is_kept_where_it_is_better_by_more_than_a_standard_error() -> None:
    """Differences of 0.2 and 0 have a mean of 0.1 and a standard error of sqrt(0.02 / 2) = 0.1: not more. Those of 0.2
    and 0.1 have 0.15 and 0.05: more."""
    first = evaluation_at(0, 0.5, 0.5)
    luck, better = evaluation_at(1, 0.7, 0.5), evaluation_at(2, 0.7, 0.6)
    assert difference(luck.judge, first.judge) == pytest.approx((0.1, 0.1))
    assert kept([first]) is first
    assert kept([first, luck]) is first and best([first, luck]) is luck
    assert kept([first, luck, better]) is better
    assert kept([first, evaluation_at(2, 0.7, 0.6, kl=2.5)], 2.4) is first  # too far
    assert kept([evaluation_at(0, 0.5, math.nan), luck]) is luck and kept([evaluation_at(0, 0.5, math.nan)]) is None


def test_the_earliest_of_equal_looks_is_the_best() -> None:
    evaluations = [EvaluationStep(step, (0.0, 1.0), (0.5, 0.7), 0.0) for step in (0, 5, 10)]
    assert best(evaluations) is evaluations[0]


def test_how_many_standard_errors_are_noise() -> None:
    """Two evaluations: Student's t, two-sided at 5%. More evaluations or fewer prompts: more."""
    assert critical(2, 64) == pytest.approx(1.998, abs=2e-3)  # t(0.975) of 63 degrees of freedom
    assert critical(21, 64) == pytest.approx(studentized_range.ppf(0.95, 21, 63) / math.sqrt(2))
    assert critical(9, 64) < critical(21, 64) < critical(21, 16)
    assert critical(21, 1) == math.inf


def simulated(draw: np.random.Generator, evaluations: int, prompts: int, persistence: float) -> list[EvaluationStep]:
    """A policy whose judge's score has no trend, while its proxy rises: scores in (0, 1) that differ by prompt, with
    sampling noise that neighbouring evaluations share to some degree, as those of a slowly changing policy do."""
    level, noise, found = draw.normal(0, 1, prompts), draw.normal(0, 1, prompts), []
    for index in range(evaluations):
        judge = 1 / (1 + np.exp(-2 * (level + 1.5 * noise)))
        found.append(EvaluationStep(index, (float(index),) * prompts, tuple(judge), 0.0))
        noise = persistence * noise + math.sqrt(1 - persistence**2) * draw.normal(0, 1, prompts)
    return found


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9])
def test_false_alarms_over_a_run_of_21_evaluation_steps(persistence: float) -> None:
    """The worst case: the proxy rises at every evaluation. At most 5% of runs are stopped for nothing (12 of 200 is
    what a rate of 5% itself exceeds in a quarter of such simulations)."""
    draw = np.random.default_rng(7)
    alarms = 0
    for _ in range(200):
        evaluations = simulated(draw, 21, PROMPTS, persistence)
        alarms += any(decide(evaluations[: i + 1], planned=21) for i in range(21))
    assert alarms <= 12, alarms


def test_a_run_that_does_not_change_is_not_stopped() -> None:
    evaluations = [EvaluationStep(step, (step / 10,) * 8, (0.5,) * 8, 0.0) for step in range(21)]
    assert not any(decide(evaluations[: i + 1], planned=21) for i in range(21))


def test_a_decline_is_seen_in_time() -> None:
    """A rise of 0.03 an evaluation up to the 8th and a fall of 0.05 from there, each prompt's score with a deviation of
    0.4: seen after 4 evaluations in half of 40 runs and 7 in nearly all, and what is kept is from around the top,
    rather before it than after it."""
    draw = np.random.default_rng(3)
    seen, good = [], []
    for _ in range(40):
        evaluations = [
            dataclasses.replace(x, judge=tuple(np.asarray(x.judge) + 0.03 * min(i, 8) - 0.05 * max(0, i - 8)))
            for i, x in enumerate(simulated(draw, 21, PROMPTS, 0.5))
        ]
        seen.append(next(i for i in range(21) if decide(evaluations[: i + 1], planned=21)))
        good.append(evaluations.index(kept(evaluations[: seen[-1] + 1]) or evaluations[0]))
    assert min(seen) > 8
    assert np.median(seen) <= 12 and np.quantile(seen, 0.9) <= 15, seen
    assert np.quantile(good, [0.1, 0.9]) == pytest.approx([6, 8], abs=2), good


# --- a model that is measured -------------------------------------------------------------------------------------

SCORES = """
import torch
def proxy(prompts, answers):
    torch.rand(1)  # a reward may draw at random: training must not notice
    return [float(len(answer)) for answer in answers]
def judge(prompts, answers):
    return [len(set(answer)) / (1 + len(answer)) for answer in answers]
"""


class Drift:
    """Stands for training: every step moves the weights a little, the same way whenever it is that step."""

    def __init__(self, job: Job, model: Any, tokenizer: Any) -> None:
        from pipeline import rewards
        from pipeline.trainers.evaluation_callback import EvaluationCallback
        from pipeline.trainers.rollouts import InProcess, Reference

        self.job, self.model = job, model
        sampler = InProcess(model, tokenizer, max_new_tokens=12)
        reward = rewards.build({"kind": "function", "name": "watched_scores:proxy"})
        self.callback = EvaluationCallback(job, sampler, reward, Reference(model), tokenizer.pad_token_id)

    def step(self, step: int, size: float = 0.02) -> None:
        draw = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(size * torch.randn(parameter.shape, generator=draw))

    def run(self, first: int, last: int, total: int, size: float = 0.02) -> None:
        for step in range(first + 1, last + 1):
            self.step(step, size)
            if not self.callback.evaluate(step, total, self.model):
                return

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


@pytest.fixture(autouse=True)
def _scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "watched_scores.py").write_text(SCORES)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield
    sys.modules.pop("watched_scores", None)


Make = Callable[..., Drift]


@pytest.fixture
def measured(model: Path, tmp_path: Path, sample_rows: Callable[..., Any]) -> Make:
    """`measured("name", lora=..., kl_budget=...)`: a drifting model, measured at every other step."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [{"prompt": row["prompt"], "answer": "thanks"} for row in sample_rows("prompts", count=10)]
    dataset = tmp_path / "watched.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(name: str = "out", lora: bool = False, watch: Any = "given", **options: Any) -> Drift:
        judge = {"kind": "function", "name": "watched_scores:judge"}
        given = {"dataset": str(dataset), "judge": judge, "every": 2, **options}
        job = Job(
            id=name, method="ppo", model=str(model), out=str(tmp_path / name), dataset="", seed=3,
            watch=given if watch == "given" else watch,
        )  # fmt: skip
        torch.manual_seed(0)
        policy = AutoModelForCausalLM.from_pretrained(model)
        if lora:
            policy = get_peft_model(policy, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        return Drift(job, policy, AutoTokenizer.from_pretrained(model))

    return make


def lines(drift: Drift, name: str = "watch.jsonl") -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (drift.job.resume / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]


def test_no_evaluation_callback_does_nothing(measured: Make, tmp_path: Path) -> None:
    drift = measured(watch=None)
    drift.callback.start(0, drift.model)
    drift.run(0, 4, 4)
    assert drift.callback.settle(drift.model) == {} and drift.callback.stopped is None
    assert not drift.callback.rescue(TrainingStopped("step 3: loss is nan"), drift.model)
    drift.callback.close()
    assert not drift.job.resume.exists()


@pytest.mark.parametrize("lora", [False, True])
def test_evaluation_steps_are_paired_and_start_at_a_kl_of_zero(measured: Make, lora: bool) -> None:
    drift = measured(lora=lora)
    drift.callback.start(0, drift.model)
    before = torch.get_rng_state()
    assert drift.callback.evaluate(1, 5, drift.model)  # not due
    assert drift.callback.evaluate(2, 5, drift.model)  # nothing was learnt
    assert torch.equal(torch.get_rng_state(), before)
    drift.run(2, 5, 5)
    first, same, third, last = lines(drift)
    assert [x["step"] for x in (first, same, third, last)] == [0, 2, 4, 5]
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert {**same, "step": 0} == {**first, "total": 5}
    assert last["kl"] > 0 and 0 < last["entropy"] < math.log(320)
    samples = lines(drift, "samples.jsonl")
    assert len(samples) == 40 and [s["index"] for s in samples[:10]] == list(range(10))
    assert samples[0]["prompt"] and "prompt" not in samples[10]
    assert first["proxy"] == pytest.approx(np.mean([len(s["text"]) for s in samples[:10]]))
    assert first["proxy_se"] == pytest.approx(np.std([len(s["text"]) for s in samples[:10]], ddof=1) / math.sqrt(10))
    assert {"tokens", "truncated", "refusals", "lists", "hedges", "flattery", "boilerplate"} <= first.keys()


def test_the_kl_is_that_of_the_two_models(measured: Make) -> None:
    """Against transformers' own loss of each answer, one at a time."""
    from transformers import AutoModelForCausalLM

    from pipeline.trainers.evaluation_callback import log_ratios

    drift = measured()
    parent = AutoModelForCausalLM.from_pretrained(drift.job.model).eval()
    drift.step(1, 0.05)
    callback = drift.callback
    answers = callback._sampler.sample(callback._plan.prompts, callback._seeds)  # type: ignore[union-attr]
    ratios, entropy = log_ratios(drift.model, callback._reference, answers, callback._pad, 1.0)
    entropies = []
    for answer, ratio in zip(answers, ratios, strict=True):
        ids = torch.tensor([[*answer.prompt_ids, *answer.ids]])
        labels = ids.clone()
        labels[:, : len(answer.prompt_ids)] = -100
        with torch.no_grad():
            mine, theirs = (m.eval()(input_ids=ids, labels=labels) for m in (drift.model, parent))
        assert ratio == pytest.approx(float(theirs.loss - mine.loss) * len(answer.ids), abs=1e-4)
        said = torch.distributions.Categorical(logits=mine.logits[0, len(answer.prompt_ids) - 1 : -1])
        entropies += said.entropy().tolist()
    assert entropy == pytest.approx(np.mean(entropies), abs=1e-4)


@pytest.mark.parametrize("lora", [False, True])
def test_good_weights_are_put_back_exactly(measured: Make, lora: bool) -> None:
    drift = measured(lora=lora, kl_budget=1e-3)
    start = drift.weights()
    drift.callback.start(0, drift.model)
    drift.run(0, 10, 10, size=0.2)
    assert drift.callback.stopped is not None and drift.callback.stopped.startswith(KL)
    assert not drift.callback.evaluate(3, 10, drift.model)  # stopped is stopped
    moved = drift.weights()
    assert any(not torch.equal(moved[name], start[name]) for name in start)
    metrics = drift.callback.settle(drift.model)
    assert [name for name, value in drift.weights().items() if not torch.equal(value, start[name])] == []
    assert (metrics["watch_stopped"], metrics["watch_kept_step"], metrics["watch_steps"]) == (KL, 0, 2)
    assert metrics["proxy_kept"] == metrics["proxy_first"] and metrics["kl_last"] > 1e-3 > metrics["kl_kept"]
    json.dumps(metrics, allow_nan=False)
    drift.callback.close()


def test_a_run_that_was_not_stopped_keeps_its_last_weights(measured: Make) -> None:
    drift = measured()
    drift.callback.start(0, drift.model)
    for step in (1, 2):
        drift.step(step)
        drift.callback.evaluate(step, 2, drift.model)
    last = drift.weights()
    metrics = drift.callback.settle(drift.model)
    assert all(torch.equal(drift.weights()[name], last[name]) for name in last)
    assert (metrics["watch_stopped"], metrics["watch_kept_step"]) == ("", 2)
    assert metrics["judge_kept"] == metrics["judge_last"] and metrics["watch_seconds"] > 0


@pytest.mark.parametrize("cut", [0, 3, 4, 6])
def test_resumed_equals_uninterrupted(measured: Make, cut: int) -> None:
    whole = measured("whole")
    whole.callback.start(0, whole.model)
    whole.run(0, 8, 8)
    first = measured("cut")
    first.callback.start(0, first.model)
    first.run(0, cut, 8)
    state = first.weights()
    first.run(cut, cut + 2, 8)  # is lost: the process died here, and with its last line half written
    with (first.job.resume / "watch.jsonl").open("a") as file:
        file.write('{"step": 99, "pro')
    second = measured("cut")
    second.model.load_state_dict(state)
    second.callback.start(cut, second.model)
    second.run(cut, 8, 8)
    assert lines(second) == lines(whole)
    assert lines(second, "samples.jsonl") == lines(whole, "samples.jsonl")
    good = whole.callback._kept()
    assert good == second.callback._kept() == kept(whole.callback._evaluations).step  # type: ignore[union-attr]
    name = f"good/{good}.safetensors"
    assert (second.job.resume / name).read_bytes() == (whole.job.resume / name).read_bytes()


def test_one_that_only_tells(measured: Make) -> None:
    """The same evaluations as of a run that is stopped, and on; what would have been kept is told, the end is kept."""
    held, told = measured("held", kl_budget=0.05), measured("told", kl_budget=0.05, stop=False)
    for drift in (held, told):
        drift.callback.start(0, drift.model)
        drift.run(0, 10, 10)
    last = told.weights()
    found, said = held.callback.settle(held.model), told.callback.settle(told.model)
    assert len(lines(told)) == 6 > len(lines(held)) and lines(told)[: len(lines(held))] == lines(held)
    same = ("watch_stopped", "watch_reason", "watch_stopped_step", "watch_kept_step", "judge_kept", "proxy_first")
    assert [said[name] for name in same] == [found[name] for name in same]
    assert said["watch_stopped_step"] < said["watch_steps"] == 10
    assert all(torch.equal(told.weights()[name], last[name]) for name in last)
    again = measured("told", kl_budget=0.05, stop=False)
    again.callback.start(8, again.model)
    assert again.callback.stopped == told.callback.stopped and again.callback.evaluate(9, 10, again.model)
    assert told.callback.rescue(TrainingStopped("step 11: loss is nan"), told.model)
    assert told.callback.settle(told.model)["watch_stopped"] == NOT_FINITE
    assert any(not torch.equal(told.weights()[name], last[name]) for name in last)


def test_a_stop_survives_a_resume(measured: Make) -> None:
    drift = measured(kl_budget=1e-3)
    drift.callback.start(0, drift.model)
    drift.run(0, 8, 8)
    again = measured(kl_budget=1e-3)
    again.callback.start(2, again.model)
    assert again.callback.stopped == drift.callback.stopped
    assert not again.callback.evaluate(3, 8, again.model)
    assert again.callback.settle(again.model)["watch_kept_step"] == 0


def test_a_loss_that_is_not_finite_falls_back(measured: Make) -> None:
    drift = measured()
    assert not drift.callback.rescue(TrainingStopped("step 1: loss is nan"), drift.model)  # nothing was measured
    drift.callback.start(0, drift.model)
    start = drift.weights()
    with torch.no_grad():
        next(drift.model.parameters()).fill_(math.nan)
    assert drift.callback.rescue(TrainingStopped("step 3: loss is nan", good_steps=1), drift.model)
    metrics = drift.callback.settle(drift.model)
    assert (metrics["watch_stopped"], metrics["watch_reason"]) == (NOT_FINITE, "step 3: loss is nan")
    assert all(torch.equal(drift.weights()[name], start[name]) for name in start)
    assert drift.callback.rescue(TrainingStopped("step 9: the loss diverges (mean of ...)"), drift.model)
    assert str(drift.callback.stopped).startswith(DIVERGED)


def test_weights_that_are_not_finite_stop_at_the_next_look(measured: Make) -> None:
    drift = measured()
    drift.callback.start(0, drift.model)
    with torch.no_grad():
        next(drift.model.parameters()).fill_(math.nan)
    assert not drift.callback.evaluate(2, 8, drift.model)
    assert str(drift.callback.stopped).startswith(NOT_FINITE)
    assert lines(drift)[-1]["kl"] is None
    assert drift.callback.settle(drift.model)["watch_kept_step"] == 0
    assert all(torch.isfinite(p).all() for p in drift.model.parameters())


def test_a_full_disk_leaves_the_good_weights_as_they_were(measured: Make) -> None:
    drift = measured()
    drift.callback.start(0, drift.model)
    good = drift.job.resume / "good"
    before = {path.name: path.read_bytes() for path in good.iterdir()}
    drift.step(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"the good weights of step 0 cannot be written"):
            drift.callback._keep(0, drift.model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in good.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"kl_budget": -1}, "kl_budget is -1"),
        ({"evry": 3}, "evry: missing or unknown"),
        ({"dataset": "nowhere"}, "there is no file nowhere"),
        ({"judge": {"kind": "nobody"}}, "nobody"),
    ],
)
def test_a_mistaken_plan_is_told(measured: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measured(**options)


def test_the_callback_stops_a_trainer(measured: Make) -> None:
    from transformers import TrainerControl, TrainerState

    from pipeline.trainers.evaluation_callback import TrainerHook

    drift = measured(kl_budget=1e-3)
    callback, control = TrainerHook(drift.callback), TrainerControl()
    state = TrainerState(max_steps=6)
    callback.on_train_begin(None, state, control, model=drift.model)
    stopped = []
    for step in range(1, 4):
        drift.step(step)
        state.global_step = step
        callback.on_step_end(None, state, control, model=drift.model)
        stopped.append(control.should_training_stop)
    assert stopped == [False, True, True]
