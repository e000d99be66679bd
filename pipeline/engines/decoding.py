"""Sampling from a transformers model: a batch of prompts, a key-value cache, one random stream a prompt.

Every prompt brings its own seed, and one uniform number a token is drawn from it before the first step. What a prompt
samples therefore does not depend on what else is in its batch, but for the last bits of the logits. Repetition
penalties and other habits of a model's `generation_config` are not applied: only its end-of-turn tokens are read, by
the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from constitution.errors import UserError
from pipeline.engines.engine import Sampling
from pipeline.engines.kv_cache import with_room

NUCLEUS = 512  # the likeliest tokens among which a nucleus is looked for before all are sorted

NOT_A_NUMBER = (
    "the model's answer is NaN where it has to say how likely each token is, so nothing it says can be used: its "
    "weights are damaged, or its numbers too large for the dtype. Use another checkpoint, or another dtype"
)


def sample(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """One token a row by the inverse of the cumulative distribution. `logits` [B, V] float32, the others [B].

    Temperature 0 takes the likeliest token. `top_p` keeps the smallest set of likeliest tokens that holds it.
    """
    greedy = logits.argmax(-1)
    if not temperature.any():
        return greedy
    heat = torch.where(temperature > 0, temperature, 1.0)
    probabilities = (logits / heat[:, None]).softmax(-1)
    if (top_p < 1).any():
        probabilities = nucleus(probabilities, top_p)
    cumulative = probabilities.double().cumsum(-1)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return torch.where(temperature > 0, drawn.clamp(max=logits.shape[-1] - 1), greedy)


def nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero but for the smallest set of likeliest tokens that holds `top_p` [B]; of tokens alike the first ones of the
    vocabulary. `probabilities` [B, V]. Rows whose nucleus is among a few tokens, nearly all, are not sorted whole."""
    few = min(NUCLEUS, probabilities.shape[-1])
    likeliest = probabilities.topk(few, dim=-1).values
    inside = likeliest.cumsum(-1) - likeliest < top_p[:, None]
    inside[:, 0] = True
    size = inside.sum(-1, keepdim=True)
    least = likeliest.gather(-1, size - 1)
    kept = probabilities >= least
    alike = kept.sum(-1, keepdim=True) != size  # more of them are as likely as the least that belongs to it
    unsure = (alike | ((size == few) & (few < probabilities.shape[-1])))[:, 0]
    if unsure.any():
        ordered, order = probabilities[unsure].sort(stable=True, dim=-1, descending=True)
        inside = ordered.cumsum(-1) - ordered < top_p[unsure, None]
        inside[:, 0] = True
        kept[unsure] = torch.zeros_like(inside).scatter(-1, order, inside)
    return probabilities.masked_fill(~kept, 0.0)


@contextmanager
def _no_plan_a_step() -> Iterator[None]:
    """cuDNN's attention plans anew for every length of the cache: 2 ms of the CPU a layer and token, and on an H100 two
    thirds of a step (`benchmarks/README.md`). The other kernels plan nothing."""
    was: bool = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was)


@torch.inference_mode()
@_no_plan_a_step()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    seeds: Sequence[int],
    stop: Collection[int],
    *,
    careless: bool = False,
    ended: Callable[[int, list[int]], bool] | None = None,
) -> list[list[int]]:
    """New tokens of each prompt, up to and including its first token in `stop`, at most its `max_tokens`.

    Prompts are padded on the left, and positions counted from the first real token. Rows that have stopped leave the
    batch once they are an eighth of it. `careless`: a model whose numbers are NaN samples anything, and whoever trains
    it looks at the loss. `ended`: asked after every token with the prompt's place and all its new tokens; what it says
    is over is over, and what it raises ends the batch.
    """
    device = model.device
    width, steps = max(map(len, prompts)), max(sampling.max_tokens for sampling in samplings)
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.ones(len(prompts), width + steps, dtype=torch.long)
    uniform = torch.zeros(len(prompts), steps, dtype=torch.float64)
    for row, (prompt, sampling, seed) in enumerate(zip(prompts, samplings, seeds, strict=True)):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, : width - len(prompt)] = 0
        stream = torch.Generator().manual_seed(seed)
        uniform[row, : sampling.max_tokens] = torch.rand(sampling.max_tokens, generator=stream, dtype=torch.float64)
    tokens, mask, uniform = tokens.to(device), mask.to(device), uniform.to(device)
    temperature = torch.tensor([sampling.temperature for sampling in samplings], device=device)
    top_p = torch.tensor([sampling.top_p for sampling in samplings], device=device)
    positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
    cache = None
    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # which prompt each row of the batch is
    done = {row for row, sampling in enumerate(samplings) if sampling.max_tokens <= 0}
    for step in range(steps):
        output = model(
            input_ids=tokens,
            attention_mask=mask[:, : width + step],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = with_room(output.past_key_values) if cache is None else output.past_key_values
        logits = output.logits[:, -1].float()
        if not careless and (logits if step == 0 else logits[:, :1]).isnan().any():  # in a state that is NaN all are
            raise UserError(NOT_A_NUMBER)
        tokens = sample(logits, temperature, top_p, uniform[:, step])[:, None]
        positions = positions[:, -1:] + 1
        for row, token in zip(rows, tokens[:, 0].tolist(), strict=True):
            if row not in done:
                written[row].append(token)
                over = ended is not None and ended(row, written[row])
                if over or token in stop or len(written[row]) >= samplings[row].max_tokens:
                    done.add(row)
        left = [place for place, row in enumerate(rows) if row not in done]
        if not left:
            break
        if 8 * len(left) <= 7 * len(rows):
            keep = torch.tensor(left, device=device)
            cache.batch_select_indices(keep)
            rows = [rows[place] for place in left]
            tokens, mask, uniform, positions = tokens[keep], mask[keep], uniform[keep], positions[keep]
            temperature, top_p = temperature[keep], top_p[keep]
    return written
