"""Log-probabilities of answers, for losses over pairs: computed where an answer is, and the prompt of a pair once.

Both answers of a pair follow one prompt. A packed row holds it once,

    prompt[:-1]  prompt[-1] chosen[:-1]  prompt[-1] rejected[:-1]

under a tree's attention mask (`pipeline.engines.tree`): the answers do not see each other, their positions both go on
from the prompt's, and the token after each place is the answer's next. Its gradient is that of two rows. Whether an
architecture takes such a mask is measured (`tree.is_exact`); one that does not gets two rows a pair. On a CPU, 14M
weights, prompts and answers of some 100 tokens: logits at answers' places alone made a pass 1.3 times as fast as those
from the first answer's place on, and packing makes whole training steps 1.29 times as fast again; the longer the
prompts, the more (`benchmarks.training`).

This module imports torch and transformers: import it inside `train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.engines import tree

IGNORED = -100


def answer_logprobs(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """[rows] sums of the log-probabilities of the answers' tokens, for [rows, tokens] `input_ids`, `attention_mask`
    and `completion_mask`. The model is one that TRL has given its fused head."""
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, IGNORED)
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    options = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    return _logprobs(model, following, options).sum(dim=1)


def packed_logprobs(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """[2 x pairs], the chosen answers first, of what `pack` made."""
    given = getattr(model, "module", model)  # without what distributes it
    positions, ends = inputs["position_ids"], inputs["ends"]
    masks = {
        kind: tree.attention_mask(positions, ends, given.dtype, window)
        for kind, window in tree.layer_windows(given.config).items()
    }
    options = {
        "input_ids": inputs["input_ids"],
        "attention_mask": masks if len(masks) > 1 else next(iter(masks.values())),
        "position_ids": positions,
    }
    logprobs = _logprobs(model, inputs["following"], options)
    chosen = inputs["chosen"]
    return torch.cat([(logprobs * chosen).sum(dim=1), (logprobs * ~chosen).sum(dim=1)])


def _logprobs(model: Any, following: Tensor, options: dict[str, Any]) -> Tensor:
    """[rows, tokens] log-probabilities of the tokens that follow each, 0 where `following` is IGNORED.

    On a GPU by TRL's fused head, which never holds the logits of a large vocabulary. On a CPU that head works through
    all places, and its entropies too.
    """
    if following.is_cuda:
        logprobs: Tensor = model(**options, shift_labels=following, fused_lm_head=True).log_probs
        return logprobs
    rows, columns = (following != IGNORED).nonzero(as_tuple=True)
    with tree.logits_only_at(getattr(model, "module", model), rows, columns):
        logits = model(**options, use_cache=False).logits[0].float()
    values = -F.cross_entropy(logits, following[rows, columns], reduction="none")
    return values.new_zeros(following.shape).index_put((rows, columns), values)


def pack(examples: Sequence[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """[pairs, tokens] of the pairs' `prompt_ids`, `chosen_ids` and `rejected_ids`: `input_ids`, `position_ids`,
    `ends` (see `tree.Tree`), `following`: the token that each place is to predict, or IGNORED, and `chosen`, whether
    it is the chosen answer's."""
    lengths = [sum(len(example[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected")) for example in examples]
    length = -(-(max(lengths) - 1) // 8) * 8  # the kernels want rows of 8 numbers
    ids = torch.full((len(examples), length), pad)
    following = torch.full_like(ids, IGNORED)
    positions = torch.zeros_like(ids)
    ends = torch.arange(1, length + 1).repeat(len(examples), 1)  # padding looks at itself alone
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        prompt, one, other = example["prompt_ids"], example["chosen_ids"], example["rejected_ids"]
        shared = len(prompt) - 1
        fork, end = shared + len(one), shared + len(one) + len(other)
        ids[row, :end] = torch.tensor([*prompt, *one[:-1], prompt[-1], *other[:-1]])
        following[row, shared:end] = torch.tensor([*one, *other])
        positions[row, :fork] = torch.arange(fork)
        positions[row, fork:end] = torch.arange(shared, shared + len(other))
        ends[row, :shared], ends[row, shared:fork], ends[row, fork:end] = end, fork, end
        chosen[row, shared:fork] = True
    return {"input_ids": ids, "position_ids": positions, "ends": ends, "following": following, "chosen": chosen}
