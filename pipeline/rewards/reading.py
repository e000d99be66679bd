"""Where in a text a reward model is read: at its last token, told by its length, or over its answer.

transformers' sequence classifiers look for the last token that is not padding, and where the padding is the very token
that ends a turn they pass over the end: a text with its end and one cut before it would get one reward. A model whose
config.json says `"reward_reads": "answer"` (method `reward_head`) is read as the mean over the answer's tokens.

This module imports torch: import it inside functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from constitution.errors import UserError

KEY, ANSWER = "reward_reads", "answer"  # in config.json


def over_answer(model: Any) -> bool:
    """Whether a model is read over the answer, and has to be told where it begins."""
    return getattr(model.config, KEY, "") == ANSWER


def rewards(model: Any, input_ids: Tensor, attention_mask: Tensor, begins: Tensor | None = None) -> Tensor:
    """[rows, heads], of texts padded on the right, where `attention_mask` says how long each is. `begins` [rows]: where
    each answer begins, of a model that is read over it. Raises UserError where such a model's rewards of single tokens
    are not to be had."""
    read: list[Tensor] = []
    given = getattr(model, "module", model)  # without what distributes it
    heads = [module for name, module in given.named_modules() if name.split(".")[-1] == "score"]
    hooks = [head.register_forward_hook(lambda _, __, output: read.append(output)) for head in heads]
    try:
        pooled: Tensor = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    whole = [output for output in read if output.dim() == 3 and output.shape[:2] == input_ids.shape]
    if begins is not None:
        if not whole:
            raise UserError(f"a {type(given).__name__} has no reward of every token; train it by method reward")
        answer = answers(attention_mask, begins)[:, :, None]
        return (whole[-1] * answer).sum(dim=1) / answer.sum(dim=1)
    if not whole:
        return pooled  # an architecture that reads a text elsewhere, by its own attention mask
    last = attention_mask.sum(dim=1) - 1
    rows = last.new_tensor(range(len(last)))
    return whole[-1][rows, last.clamp(min=0)]


def answers(attention_mask: Tensor, begins: Tensor) -> Tensor:
    """[rows, tokens], true where a token is the answer's."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (places[None] >= begins.to(places.device)[:, None]) & (attention_mask > 0)
