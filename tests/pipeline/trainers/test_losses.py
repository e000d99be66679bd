"""The losses against hand-computed ones, and against TRL's own where TRL has them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.models.checkpoint import Manifest
from pipeline.trainers import fitting
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.soft_targets import answer_logprobs, soft_cross_entropy
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]


def curve(job: Job) -> list[float]:
    return [line["loss"] for line in read(Path(job.out) / NAME)]


def answer_logprob(folder: str | Path, prompt: list[Any], answer: list[Any]) -> float:
    """Sum of log-probabilities of an answer's tokens, end of turn included: one row, no padding, plain softmax."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    ids = tokenizer.apply_chat_template(prompt + answer)["input_ids"]
    assert ids[: len(before)] == before
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(logprobs[at - 1, ids[at]].item() for at in range(len(before), len(ids)))


def reward(folder: str | Path, dialogue: list[Any]) -> float:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(dialogue)["input_ids"]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits[0, 0])


def bernoulli_loss(x: float, p: float) -> float:
    return p * math.log1p(math.exp(-x)) + (1 - p) * math.log1p(math.exp(x))


def test_the_soft_cross_entropy_by_hand_and_its_minimum() -> None:
    x = torch.tensor([0.0, 2.0, -1.0, math.log(0.8 / 0.2)], requires_grad=True)
    p = torch.tensor([0.7, 1.0, 0.6, 0.8])
    losses = soft_cross_entropy(x, p)
    expected = [bernoulli_loss(a, b) for a, b in zip(x.tolist(), p.tolist(), strict=True)]
    assert losses.tolist() == pytest.approx(expected, abs=1e-6)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0.5 - 0.7, torch.sigmoid(x[1]).item() - 1, 0.2689414 - 0.6, 0], abs=1e-6)


def test_sft_is_the_mean_over_answer_tokens_only(make_job: MakeJob, model: Path, sample_rows: Any) -> None:
    rows = sample_rows("sft", 6)
    job = make_job("sft", rows=rows, max_steps=1)
    run(job)
    logprobs = [answer_logprob(model, row["prompt"], row["completion"]) for row in rows]
    tokens = fitting.load_tokenizer(job)
    counts = [
        len(tokens.apply_chat_template(row["prompt"] + row["completion"])["input_ids"])
        - len(tokens.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"])
        for row in rows
    ]
    assert curve(job)[0] == pytest.approx(-sum(logprobs) / sum(counts), abs=1e-5)


def test_soft_dpo_by_hand(make_job: MakeJob, model: Path, sample_rows: Any) -> None:
    rows = sample_rows("dpo", 6)
    first = make_job("dpo", "first", rows=rows, max_steps=1, beta=0.3)
    both = make_job("dpo", "both", rows=rows, max_steps=2, beta=0.3, num_train_epochs=2)
    run(first)
    run(both)
    losses = []
    for row in rows:
        ratio = {
            side: answer_logprob(first.out, row["prompt"], row[side]) - answer_logprob(model, row["prompt"], row[side])
            for side in ("chosen", "rejected")
        }
        losses.append(bernoulli_loss(0.3 * (ratio["chosen"] - ratio["rejected"]), row["p"]))
    expected = sum(losses) / len(losses)
    assert abs(expected - math.log(2)) > 0.003  # the first step moved something
    assert curve(both) == pytest.approx([math.log(2), expected], abs=2e-5)


def test_soft_bradley_terry_by_hand(make_job: MakeJob, sample_rows: Any) -> None:
    rows = sample_rows("reward", 6)
    first = make_job("reward", "first", rows=rows, max_steps=1)
    both = make_job("reward", "both", rows=rows, max_steps=2, eval_dataset=first.dataset)
    run(first)
    manifest = run(both)
    margins = [
        reward(first.out, row["prompt"] + row["chosen"]) - reward(first.out, row["prompt"] + row["rejected"])
        for row in rows
    ]
    expected = sum(bernoulli_loss(m, row["p"]) for m, row in zip(margins, rows, strict=True)) / len(rows)
    assert curve(both)[1] == pytest.approx(expected, abs=2e-5)
    check_heldout(both, rows, manifest)


def check_heldout(job: Job, rows: list[Any], manifest: Manifest) -> None:
    lines = [json.loads(line) for line in (Path(job.out) / "heldout.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line, row in zip(lines, rows, strict=True):
        assert line["p"] == row["p"]
        assert line["chosen"] == pytest.approx(reward(job.out, row["prompt"] + row["chosen"]), abs=1e-5)
        assert line["margin"] == pytest.approx(line["chosen"] - line["rejected"], abs=1e-5)
    right = sum(line["margin"] > 0 for line in lines) / len(lines)
    assert manifest.metrics["eval_accuracy"] == pytest.approx(right)
    both = [line[side] for line in lines for side in ("chosen", "rejected")]
    assert manifest.metrics["reward_mean"] == pytest.approx(sum(both) / 12, abs=1e-5)
    assert manifest.metrics["reward_std"] == pytest.approx(torch.tensor(both).std().item(), abs=1e-5)


def test_both_ways_to_the_log_probabilities_of_answers_agree(model: Path) -> None:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    policy = AutoModelForCausalLM.from_pretrained(model)
    add_fused_lm_head(policy)
    ids = torch.randint(3, 250, (4, 20), generator=torch.Generator().manual_seed(0))
    answer = torch.arange(20)[None] >= torch.tensor([[5], [9], [12], [19]])
    attention = torch.ones_like(ids)
    attention[0, 15:] = 0
    answer[0, 15:] = False
    ours = answer_logprobs(policy, {"input_ids": ids, "attention_mask": attention, "completion_mask": answer.long()})
    theirs = policy(
        input_ids=ids, attention_mask=attention, labels=ids.masked_fill(~answer, -100), fused_lm_head=True
    ).log_probs.sum(dim=1)
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_with_certain_labels_it_is_trls_own_training_step_by_step(
    method: str, make_job: MakeJob, sample_rows: Any, tmp_path: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    rows = sample_rows(method, 24, p=1.0)
    job = make_job(method, rows=rows, train_sampling_strategy="sequential")
    run(job)

    reference = make_job(method, "trl", rows=rows, train_sampling_strategy="sequential")
    classes = {"dpo": (DPOTrainer, DPOConfig), "reward": (RewardTrainer, RewardConfig)}
    trainer_class, config_class = classes[method]
    settings = {**reference.arguments, "output_dir": str(tmp_path / "trl"), "logging_steps": 1, "seed": 0}
    settings |= {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False}
    settings |= {"per_device_train_batch_size": 8, "disable_tqdm": True, "save_strategy": "no"}
    if method == "dpo":
        settings["precompute_ref_log_probs"] = True
        parent = fitting.load_model(reference, AutoModelForCausalLM)
    else:
        parent = fitting.load_model(reference, AutoModelForSequenceClassification, num_labels=1)
    theirs = trainer_class(
        model=parent,
        args=config_class(**settings),
        train_dataset=Dataset.from_list([{k: v for k, v in row.items() if k != "p"} for row in rows]),
        processing_class=fitting.load_tokenizer(reference),
    )
    theirs.train()
    expected = [entry["loss"] for entry in theirs.state.log_history if "loss" in entry]
    assert len(expected) == 6
    assert curve(job) == pytest.approx(expected, abs=1e-6)
    assert expected[-1] < expected[0] - 0.01
