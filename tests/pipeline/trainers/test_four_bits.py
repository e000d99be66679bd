"""An adapter on weights in 4 bits: refused with what to do where bitsandbytes is absent, trained where it is there."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from constitution.errors import UserError
from pipeline.models import checkpoint
from pipeline.trainers import arguments, memory
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job
from tests.pipeline.trainers.conftest import make_tokenizer

MakeJob = Callable[..., Job]
LORA = {"r": 4, "target_modules": "all-linear", "bits": 4}
absent = importlib.util.find_spec("bitsandbytes") is None


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A model whose rows are whole blocks of 64 numbers, as bitsandbytes has them on a CPU."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer, folder = make_tokenizer(), tmp_path / "model"
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=128, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.skipif(not absent, reason="bitsandbytes is installed")
def test_where_it_is_absent_it_is_said_what_to_do(make_job: MakeJob) -> None:
    with pytest.raises(UserError, match=r"sft.lora: bits = 4 needs bitsandbytes, .* pip install bitsandbytes"):
        arguments.check_lora(LORA, "sft.lora")
    with pytest.raises(UserError, match="needs bitsandbytes"):
        run(make_job("sft", lora=LORA))


@pytest.mark.parametrize("bits", [8, 4.0, "4", True])
def test_another_number_of_bits_is_refused(bits: object) -> None:
    with pytest.raises(UserError, match=r"bits is .*; it can be 4"):
        arguments.check_lora({"bits": bits})


def test_the_estimate_counts_them(make_job: MakeJob, model: Path) -> None:
    whole, four = (memory.estimate(make_job("sft", lora=lora)) for lora in ({**LORA, "bits": None}, LORA))
    shapes = memory._model(model)[0]
    matrices = sum(math.prod(s) for n, s in shapes.items() if len(s) == 2 and "embed" not in n)
    saved = matrices * (4 - memory.FOUR_BITS)
    assert whole.parts["weights"] - four.parts["weights"] == pytest.approx(saved)
    assert whole.parts["AdamW"] == four.parts["AdamW"]


@pytest.mark.skipif(absent, reason="bitsandbytes is not installed")
def test_an_adapter_learns_on_them_and_stands_on_the_whole_model(make_job: MakeJob, wide: Path) -> None:
    """And a second one on the first, which is merged before."""
    first = make_job("sft", "first", model=str(wide), lora=LORA, learning_rate=1e-2)
    done = run(first)
    assert done.metrics["loss"] < done.metrics["first_loss"]
    assert json.loads((Path(first.out) / "adapter_config.json").read_text())["base_model_name_or_path"] == str(wide)
    second = make_job("dpo", "second", lora=LORA, model=first.out, learning_rate=1e-2)
    assert run(second).metrics["loss"] < math.log(2)
    assert [folder.name for folder in checkpoint.stack(Path(second.out))] == ["second", "first", "model"]


def test_a_method_that_copies_its_model_refuses_them(make_job: MakeJob) -> None:
    with pytest.raises(UserError, match=r"optimise.lora: bits = 4 is for sft, .* and not for ppo"):
        arguments.check_lora(LORA, "optimise.lora", "ppo")
