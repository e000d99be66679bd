"""A tiny random-weight Qwen3 with a ChatML template, and data sets for it: real libraries, seconds of work."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.trainers.__main__ import import_training_libraries
from pipeline.trainers.trainer import Job

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "the a baker cat dog sings runs blue red apple help with please thanks lock open door window".split()
ROWS = 24


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|im_end|>")
    wrapped.chat_template = CHATML
    return wrapped


@pytest.fixture(scope="session", autouse=True)
def _training_libraries() -> None:
    import_training_libraries()
    import torch

    torch.set_num_threads(1)  # a second thread that waits for a busy core makes such small steps ten times slower


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model of 2 layers, width 32, 128 positions."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("parent") / "model"
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.2,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def messages(role: str, words: list[str]) -> list[dict[str, str]]:
    return [{"role": role, "content": " ".join(words)}]


def make_rows(method: str, count: int = ROWS, p: float | None = None) -> list[dict[str, Any]]:
    """Rows of uneven length. In a preference row the chosen answer begins with "please", the other with "thanks"."""
    draw = random.Random(1)
    rows = []
    for _ in range(count):
        prompt, one, other = ([draw.choice(WORDS) for _ in range(draw.randint(1, 8))] for _ in range(3))
        row: dict[str, Any] = {"prompt": messages("user", prompt)}
        if method == "sft":
            row |= {"completion": messages("assistant", one)}
        else:
            row |= {
                "chosen": messages("assistant", ["please", *one]),
                "rejected": messages("assistant", ["thanks", *other]),
                "p": draw.choice([0.6, 0.8, 0.95, 1.0]) if p is None else p,
            }
        rows.append(row)
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def sample_rows() -> Callable[..., list[dict[str, Any]]]:
    return make_rows


# Eight rows a step, six steps in two epochs, a loss that moves.
QUICK = {"learning_rate": 1e-3, "num_train_epochs": 2, "warmup_steps": 0, "lr_scheduler_type": "constant"}

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(model: Path, tmp_path: Path) -> MakeJob:
    """`make_job("dpo", "name", lora=..., rows=..., learning_rate=..., ...)`: a job on the tiny model."""

    def make(method: str, name: str = "out", **options: Any) -> Job:
        fields = {key: options.pop(key) for key in ("lora", "seed", "eval_dataset", "model", "dtype") if key in options}
        rows = options.pop("rows", None) or make_rows(method)
        dataset = write_rows(tmp_path / f"{name}.jsonl", rows)
        return Job(
            id=f"{method}-{name}",
            method=method,
            out=str(tmp_path / name),
            dataset=dataset,
            arguments={**QUICK, **options},
            **{"model": str(model), "device": "cpu", **fields},
        )

    return make


@pytest.fixture
def rewarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Job, str], Job]:
    """`rewarded(job, "len(answer)")`: the job, rewarded by a Python expression over `prompt` and `answer`."""
    monkeypatch.syspath_prepend(tmp_path)
    number = itertools.count()

    def make(job: Job, expression: str) -> Job:
        name = f"{tmp_path.name}_{next(number)}".replace("-", "_")
        rewards = f"[float({expression}) for prompt, answer in zip(prompts, answers)]"
        (tmp_path / f"{name}.py").write_text(f"def score(prompts, answers):\n    return {rewards}\n")
        return dataclasses.replace(job, reward={"kind": "function", "name": f"{name}:score"})

    return make
