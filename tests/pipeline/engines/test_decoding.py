"""Decoding: a cache with room and a nucleus that is not sorted whole give what the plain ways give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from pipeline.engines import decoding, kv_cache
from pipeline.engines.engine import Sampling

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 8,
         "num_key_value_heads": 2, "vocab_size": 300, "initializer_range": 0.3}  # fmt: skip


@pytest.fixture(params=["llama", "gemma3"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    if request.param == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    kinds = ["sliding_attention", "full_attention"] * 2
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=8, layer_types=kinds)).eval()


def test_a_cache_with_room_changes_no_answer(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of different lengths, that stop at different steps, past the end of the first room."""
    prompts = [list(range(5, 5 + n)) for n in (3, 20, 9, 1, 40, 7)]
    samplings = [Sampling(temperature=0.8, top_p=0.9, max_tokens=n) for n in (150, 5, 140, 1, 60, 145)]
    had = decoding.decode(model, prompts, samplings, range(6), {299})
    assert [len(one) for one in had][1:4:2] == [5, 1] and max(map(len, had)) > kv_cache.ROOM
    monkeypatch.setattr(decoding, "with_room", lambda cache: cache)
    assert decoding.decode(model, prompts, samplings, range(6), {299}) == had


def test_only_layers_that_keep_all_have_room(model: Any) -> None:
    out = model(torch.arange(6)[None], use_cache=True)
    cache = kv_cache.with_room(out.past_key_values)
    roomy = [type(layer) is kv_cache.Roomy for layer in cache.layers]
    assert roomy == [not layer.is_sliding for layer in cache.layers] and any(roomy)
    room = next(layer for layer in cache.layers if type(layer) is kv_cache.Roomy)
    model(torch.arange(1)[None], past_key_values=cache, use_cache=True)
    first = room.rooms
    model(torch.arange(1)[None], past_key_values=cache, use_cache=True)
    assert room.rooms is first and room.get_seq_length() == 8  # and nothing was copied


def sorted_whole(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """The definition: tokens by probability, those alike by their place, until they hold `top_p`."""
    ordered, order = probabilities.sort(stable=True, dim=-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p[:, None]
    beyond[:, 0] = False
    return probabilities.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)


@pytest.mark.parametrize("vocabulary", [2, 5, 300, 600, 4000])
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 4.0])
@pytest.mark.parametrize("ties", [False, True])
def test_the_nucleus_is_that_of_the_whole_order(vocabulary: int, spread: float, ties: bool) -> None:
    chance = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(24, vocabulary, generator=chance) * spread
    if ties:
        logits = (logits * 2).round() / 2
    top_p = torch.rand(24, generator=chance)
    top_p[0], top_p[1], top_p[2] = 1.0, 1e-9, 0.9
    probabilities = logits.softmax(-1)
    assert torch.equal(decoding.nucleus(probabilities, top_p), sorted_whole(probabilities, top_p))
