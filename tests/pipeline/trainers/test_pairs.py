"""A packed pair against two rows: the same log-probabilities and the same gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from pipeline.engines import tree
from pipeline.trainers import pairs
from pipeline.trainers.progress import NAME, read
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

MakeJob = Callable[..., Job]
LENGTHS = [(5, 3, 9), (1, 1, 1), (12, 30, 2), (2, 40, 40)]  # of prompt, chosen and rejected
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}


def architecture(name: str) -> Any:
    import transformers

    torch.manual_seed(0)
    if name == "sliding":
        return transformers.MistralForCausalLM(transformers.MistralConfig(**SHAPE, sliding_window=8))
    if name == "soft capped":
        config = transformers.Gemma2Config(**SHAPE, head_dim=16, sliding_window=8, query_pre_attn_scalar=16)
        return transformers.Gemma2ForCausalLM(config)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))


def examples(alike: int = 0) -> list[dict[str, Any]]:
    """Pairs of random tokens; `alike`: how many tokens both answers begin with."""
    draw = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 300, (count,), generator=draw).tolist()

    made = []
    for prompt, chosen, rejected in LENGTHS:
        same = tokens(alike)
        made.append(
            {"prompt_ids": tokens(prompt), "chosen_ids": same + tokens(chosen), "rejected_ids": same + tokens(rejected)}
        )
    return made


def one_by_one(model: Any, made: list[dict[str, Any]]) -> torch.Tensor:
    """Every answer in a row of its own, without padding, by a plain softmax."""
    sums = []
    for side in ("chosen_ids", "rejected_ids"):
        for example in made:
            ids = torch.tensor([example["prompt_ids"] + example[side]])
            logprobs = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            start = len(example["prompt_ids"])
            sums.append(sum(logprobs[at - 1, ids[0, at]] for at in range(start, ids.shape[1])))
    return torch.stack(sums)  # type: ignore[arg-type]


@pytest.mark.parametrize("alike", [0, 4])
@pytest.mark.parametrize("name", ["full", "sliding", "soft capped"])
def test_a_packed_pair_has_the_log_probabilities_and_the_gradient_of_two_rows(name: str, alike: int) -> None:
    model, made = architecture(name), examples(alike)
    assert tree.is_exact(model)[0]
    weights = torch.linspace(-1, 1, 2 * len(made))  # so that no two answers' gradients cancel
    plain = one_by_one(model, made)
    (plain * weights).sum().backward()
    expected = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    model.zero_grad()
    packed = pairs.packed_logprobs(model, pairs.pack(made, pad=0))
    (packed * weights).sum().backward()
    assert torch.allclose(packed, plain, atol=1e-4)
    for key, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, expected[key], atol=1e-4, rtol=1e-3), key


def test_the_fused_head_of_a_gpu_takes_a_packed_pair_too() -> None:
    model, made = architecture("full"), examples()
    batch = pairs.pack(made, pad=0)
    expected = pairs.packed_logprobs(model, batch)
    add_fused_lm_head(model)
    mask = tree.attention_mask(batch["position_ids"], batch["ends"], torch.float32)
    logprobs = model(
        input_ids=batch["input_ids"],
        attention_mask=mask,
        position_ids=batch["position_ids"],
        shift_labels=batch["following"],
        fused_lm_head=True,
    ).log_probs
    sums = [(logprobs * side).sum(dim=1) for side in (batch["chosen"], ~batch["chosen"])]
    assert torch.allclose(torch.cat(sums), expected, atol=1e-4)


def test_a_packed_row_by_hand() -> None:
    batch = pairs.pack([{"prompt_ids": [7, 8], "chosen_ids": [1, 2], "rejected_ids": [3, 4, 5]}], pad=0)
    assert {name: values[0].tolist() for name, values in batch.items()} == {
        "input_ids": [7, 8, 1, 8, 3, 4, 0, 0],
        "position_ids": [0, 1, 2, 1, 2, 3, 0, 0],
        "ends": [6, 3, 3, 6, 6, 6, 7, 8],
        "following": [-100, 1, 2, 3, 4, 5, -100, -100],
        "chosen": [False, True, True, False, False, False, False, False],
    }


def test_dpo_of_a_model_that_takes_no_tree_mask_is_the_same_in_two_rows(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = make_job("dpo", "packed")
    rows = make_job("dpo", "rows")
    run(packed)
    monkeypatch.setattr(tree, "is_exact", lambda model: (False, "told so"))
    run(rows)
    curves = [[line["loss"] for line in read(Path(job.out) / NAME)] for job in (packed, rows)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
