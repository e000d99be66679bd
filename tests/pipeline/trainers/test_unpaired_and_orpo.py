"""KTO and ORPO: their losses from the model's own log-probabilities, and what they do with rows and batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from constitution.errors import UserError
from pipeline.models import merging
from pipeline.trainers import publishing
from pipeline.trainers.kto import balance
from pipeline.trainers.odds_ratio import log_odds
from pipeline.trainers.progress import NAME, Interruption, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
METHODS = ["kto", "orpo"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def curve(job: Job, name: str = "loss") -> list[float]:
    return [line[name] for line in read(Path(job.out) / NAME)]


def unpaired(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Good and bad answers in turn, one of each pair."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if good else "rejected"], "label": good}
        for row, good in zip(rows, [True, False] * len(rows), strict=False)
    ]


@pytest.fixture
def rows(sample_rows: Any) -> Callable[..., list[dict[str, Any]]]:
    def make(method: str, count: int = 24, p: float | None = None) -> list[dict[str, Any]]:
        pairs: list[dict[str, Any]] = sample_rows("dpo", count, p)
        return unpaired(pairs) if method == "kto" else pairs

    return make


def answer_logprob(folder: str | Path, prompt: list[Any], answer: list[Any]) -> tuple[float, int]:
    """Of an answer's tokens, end of turn included: the sum of their log-probabilities, and how many they are. One row,
    no padding, plain softmax."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    ids = tokenizer.apply_chat_template(prompt + answer)["input_ids"]
    assert ids[: len(before)] == before
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(logprobs[at - 1, ids[at]].item() for at in range(len(before), len(ids))), len(ids) - len(before)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- KTO ---------------------------------------------------------------------------------------------------------


def test_kto_by_hand(make_job: MakeJob, model: Path, rows: Any) -> None:
    data = rows("kto", 6)
    options = {"rows": data, "beta": 0.3, "desirable_weight": 1.2, "undesirable_weight": 0.7, "learning_rate": 3e-3}
    first = make_job("kto", "first", max_steps=1, **options)
    both = make_job("kto", "both", max_steps=2, **options)
    run(first)
    run(both)

    from datasets import Dataset

    order = list(Dataset.from_list([{"row": i} for i in range(6)]).shuffle(seed=0)["row"])
    shuffled = [data[index] for index in order]

    def ratio(prompt: Any, answer: Any) -> float:
        return answer_logprob(first.out, prompt, answer)[0] - answer_logprob(model, prompt, answer)[0]

    moved_on = [shuffled[-1], *shuffled[:-1]]
    mismatched = [ratio(row["prompt"], other["completion"]) for row, other in zip(shuffled, moved_on, strict=True)]
    z0 = max(0.0, sum(mismatched) / 6)
    losses = [
        1.2 * (1 - sigmoid(0.3 * (ratio(row["prompt"], row["completion"]) - z0)))
        if row["label"]
        else 0.7 * (1 - sigmoid(0.3 * (z0 - ratio(row["prompt"], row["completion"]))))
        for row in shuffled
    ]
    expected = sum(losses) / 6
    start = 0.5 * (1.2 + 0.7) / 2  # at the reference every ratio and z0 are 0
    assert abs(expected - start) > 0.003
    assert curve(both) == pytest.approx([start, expected], abs=1e-5)
    assert curve(both, "kl")[1] == pytest.approx(z0, abs=1e-5)


def test_kto_tells_good_from_bad_and_shows_the_balance(
    make_job: MakeJob, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data = [row for index, row in enumerate(rows("kto", 40)) if row["label"] or index % 4 == 1]
    job = make_job("kto", rows=data, learning_rate=3e-3, num_train_epochs=4, per_device_train_batch_size=10)
    job = Job(**{**vars(job), "eval_dataset": job.dataset})
    metrics = run(job).metrics
    assert (metrics["good"], metrics["bad"]) == (20, 10)
    assert metrics["desirable_weight"] == 1
    assert metrics["undesirable_weight"] == pytest.approx(1.5)  # 20 : 15 is 4 : 3
    assert "20 good rows of weight 1, 10 bad rows of weight 1.5" in caplog.text
    assert curve(job)[-1] < curve(job)[0]
    assert metrics["eval_rewards/chosen"] > 0 > metrics["eval_rewards/rejected"]
    assert metrics["eval_rows"] == 30


@pytest.mark.parametrize(
    ("good", "bad", "given", "expected"),
    [
        (10, 10, (None, None), (1, 1)),
        (12, 10, (None, None), (1, 1)),  # 1.2 lies between 1 and 4/3
        (10, 40, (None, None), (4, 1)),
        (40, 10, (None, None), (1, 3)),
        (40, 10, (0.5, None), (0.5, 1.5)),
        (10, 40, (None, 2.0), (8, 2)),
        (10, 40, (1.0, 1.0), (1, 1)),  # as the job says
    ],
)
def test_the_weights_balance_good_and_bad(good: int, bad: int, given: Any, expected: Any) -> None:
    assert balance(good, bad, *given) == pytest.approx(expected)


def test_kto_needs_good_and_bad_and_a_batch(make_job: MakeJob, rows: Any) -> None:
    good = [row for row in rows("kto") if row["label"]]
    with pytest.raises(UserError, match="all 12 rows are good; kto learns from both: add bad answers"):
        run(make_job("kto", "good", rows=good))
    with pytest.raises(UserError, match="per_device_train_batch_size is 1; kto estimates the KL"):
        run(make_job("kto", "one", rows=rows("kto"), per_device_train_batch_size=1))
    with pytest.raises(UserError, match="kto does not read train_sampling_strategy"):
        run(make_job("kto", "order", rows=rows("kto"), train_sampling_strategy="random"))


def test_batches_of_one_kind_and_a_last_row_alone_do_no_harm(make_job: MakeJob, rows: Any) -> None:
    data = rows("kto", 25)
    job = make_job("kto", rows=data, per_device_train_batch_size=2, num_train_epochs=1)
    metrics = run(job).metrics
    assert metrics["steps"] == 12  # 24 rows: the 25th would have been paired with itself
    lines = read(Path(job.out) / NAME)
    assert any("rewards/chosen" not in line for line in lines)  # else this test tests nothing
    assert math.isfinite(metrics["rewards/chosen"])


# --- ORPO --------------------------------------------------------------------------------------------------------


def orpo_loss(folder: str | Path, row: dict[str, Any], beta: float, p: float) -> float:
    odds = {}
    for side in ("chosen", "rejected"):
        total, tokens = answer_logprob(folder, row["prompt"], row[side])
        probability = math.exp(total / tokens)
        odds[side] = probability / (1 - probability)
        if side == "chosen":
            nll = -total / tokens
    ratio = odds["chosen"] / odds["rejected"]
    # -log sigmoid(log ratio) = -log(ratio / (1 + ratio))
    return nll - beta * (p * math.log(ratio / (1 + ratio)) + (1 - p) * math.log(1 / (1 + ratio)))


@pytest.mark.parametrize("p", [1.0, None])
def test_orpo_by_hand(p: float | None, make_job: MakeJob, model: Path, rows: Any) -> None:
    data = rows("orpo", 6, p)
    options = {"rows": data, "beta": 0.7, "learning_rate": 3e-3}
    first = make_job("orpo", "first", max_steps=1, **options)
    both = make_job("orpo", "both", max_steps=2, **options)
    run(first)
    run(both)
    expected = [sum(orpo_loss(folder, row, 0.7, row["p"]) for row in data) / 6 for folder in (model, first.out)]
    assert expected[1] < expected[0] - 0.01
    assert curve(both) == pytest.approx(expected, abs=1e-5)


def test_log_odds_at_both_ends() -> None:
    values = torch.tensor([math.log(0.5), math.log(0.9), -60.0, 0.0], requires_grad=True)
    odds = log_odds(values)
    assert odds[:3].tolist() == pytest.approx([0.0, math.log(9), -60.0], abs=1e-5)
    assert torch.isfinite(odds).all()
    odds.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None and torch.isfinite(values.grad).all()


def test_the_comparison_of_trls_orpo_is_ours_and_its_imitation_is_not(
    make_job: MakeJob, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `odds_ratio` says of TRL's: the same odds from the same log-probabilities, another first term."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from pipeline.trainers import fitting

    data = rows("orpo", 8, 1.0)
    job = make_job("orpo", rows=data)
    config = ORPOConfig(str(tmp_path / "trl"), bf16=False, use_cpu=True, beta=0.7, report_to="none")
    trainer = ORPOTrainer(
        model=fitting.load_model(job, AutoModelForCausalLM),
        args=config,
        train_dataset=Dataset.from_list([{k: v for k, v in row.items() if k != "p"} for row in data]),
        processing_class=fitting.load_tokenizer(job),
    )
    row = trainer.train_dataset[0]
    end, newline = trainer.processing_class.convert_tokens_to_ids(["<|im_end|>", "Ċ"])
    assert row["chosen_input_ids"][-3:] == [end, newline, end]  # an end of turn that no model would be asked for
    ours, theirs = torch.tensor([-0.4, -2.0]), torch.tensor([-1.5, -0.1])
    expected, *_ = trainer.odds_ratio_loss(ours, theirs)
    x = log_odds(ours) - log_odds(theirs)
    assert (0.7 * torch.nn.functional.logsigmoid(x)).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_orpo_held_out_pairs_are_judged_by_the_odds(make_job: MakeJob, rows: Any) -> None:
    job = make_job("orpo", rows=rows("orpo", 16), learning_rate=5e-3, num_train_epochs=6, beta=1.0)
    job = Job(**{**vars(job), "eval_dataset": job.dataset})
    metrics = run(job).metrics
    assert metrics["eval_accuracy"] > 0.9
    lines = [json.loads(line) for line in (Path(job.out) / "heldout.jsonl").read_text().splitlines()]
    assert len(lines) == metrics["eval_pairs"] == 16


# --- both --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_run_resumed_in_the_middle_of_an_epoch_is_the_same_run(
    method: str, lora: dict[str, Any] | None, make_job: MakeJob, model: Path, rows: Any
) -> None:
    options = {"lora": lora, "rows": rows(method), "learning_rate": 3e-3}
    whole, parts = make_job(method, "whole", **options), make_job(method, "parts", **options)
    expected = run(whole)
    assert curve(whole)[-1] < curve(whole)[0]
    if not lora:
        before, after = load_file(model / "model.safetensors"), load_file(Path(whole.out) / "model.safetensors")
        assert all(not torch.equal(weights, after[name]) for name, weights in before.items())
    interruption = Interruption()

    def ctrl_c(line: dict[str, Any]) -> None:
        if line["step"] == 4:
            interruption()

    with pytest.raises(KeyboardInterrupt):
        run(parts, on_step=ctrl_c, interruption=interruption)
    assert publishing.finished(parts) is None
    resumed = run(parts)
    assert curve(parts) == pytest.approx(curve(whole), abs=1e-6)
    assert resumed.digest == expected.digest


def test_an_orpo_row_accumulated_eight_times_is_a_batch_of_eight(make_job: MakeJob, rows: Any) -> None:
    whole = make_job("orpo", "whole", rows=rows("orpo"), per_device_train_batch_size=8)
    pieces = make_job("orpo", "pieces", rows=rows("orpo"), per_device_train_batch_size=1, gradient_accumulation_steps=8)
    run(whole)
    run(pieces)
    assert curve(pieces) == pytest.approx(curve(whole), abs=2e-5)


def test_a_kto_batch_accumulated_depends_on_the_micro_batch(make_job: MakeJob, rows: Any) -> None:
    options = {"rows": rows("kto"), "learning_rate": 3e-3, "num_train_epochs": 4, "beta": 1.0}
    whole = make_job("kto", "whole", per_device_train_batch_size=8, **options)
    pieces = make_job("kto", "pieces", per_device_train_batch_size=4, gradient_accumulation_steps=2, **options)
    run(whole)
    run(pieces)
    assert curve(pieces)[0] == pytest.approx(curve(whole)[0], abs=1e-5)
    assert curve(pieces) == pytest.approx(curve(whole), abs=0.15)  # near
    assert curve(pieces) != pytest.approx(curve(whole), abs=1e-4)  # and not the same


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_on_an_adapter_starts_at_its_parent(method: str, make_job: MakeJob, rows: Any) -> None:
    below = make_job("orpo", "below", lora=LORA, rows=rows("orpo"), learning_rate=1e-2)
    run(below)
    above = make_job(method, "above", lora=LORA, model=below.out, rows=rows(method, 8), max_steps=1, beta=0.5)
    run(above)
    if method == "kto":
        assert curve(above, "rewards/margins") == pytest.approx([0], abs=1e-6)
    else:
        merging.merge(Path(below.out), Path(below.out + "-merged"))
        data = rows(method, 8)
        expected = sum(orpo_loss(below.out + "-merged", row, 0.5, row["p"]) for row in data) / 8
        assert curve(above) == pytest.approx([expected], abs=1e-5)
