"""Sequences that share beginnings, computed once: a packed row, its tree attention mask, and one forward pass.

K token sequences become one row that holds each shared beginning once. Sorted, the sequences are the leaves of a tree
in depth-first order, so the whole tree is one number a token: `ends`, where the part of the row below it ends. Token i
may look at token j if and only if j <= i < ends[j], and its position is its depth: exactly what it would see alone.

A layer with a sliding window looks back at most `window` *positions*, which are not distances in the row: such layers
get a mask of their own. Whether an architecture honours both is not believed but measured: `is_exact`.
Nothing here knows of chats or labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHECK_WINDOW = 256  # a wider sliding window is narrowed to this while an architecture is checked


@dataclass(frozen=True, slots=True)
class Tree:
    """K sequences packed into a row of L tokens."""

    tokens: list[int]  # [L]
    positions: list[int]  # [L] depth in the tree: the position in the sequence
    ends: list[int]  # [L] one past the last token of the row that may look at this one
    last: list[int]  # [K] where in the row each sequence's last token is


def pack(sequences: Sequence[Sequence[int]]) -> Tree:
    """Pack K non-empty sequences. Whatever beginning two of them share is in the row once, at every depth."""
    tokens: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    path: list[int] = []  # where in the row the tokens of the sequence at hand are
    last = [0] * len(sequences)
    previous: Sequence[int] = ()
    for k in sorted(range(len(sequences)), key=lambda k: list(sequences[k])):
        sequence = sequences[k]
        if not sequence:
            raise ValueError("an empty sequence has no last token")
        shared = _common(previous, sequence)
        for i in path[shared:]:
            ends[i] = len(tokens)
        new = range(len(tokens), len(tokens) + len(sequence) - shared)
        path[shared:] = new
        tokens.extend(sequence[shared:])
        positions.extend(range(shared, len(sequence)))
        ends.extend([0] * len(new))
        last[k], previous = path[-1], sequence
    for i in path:
        ends[i] = len(tokens)
    return Tree(tokens, positions, ends, last)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def attention_mask(positions: Tensor, ends: Tensor, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """Additive mask [B, 1, L, L] of packed rows, from `positions` and `ends` [B, L]. `window` counts positions."""
    index = torch.arange(ends.shape[1], device=ends.device)
    query, key = index[:, None], index[None, :]
    allowed = (key <= query) & (query < ends[:, None, :])
    if window is not None:
        allowed &= positions[:, :, None] - positions[:, None, :] < window
    mask = torch.zeros(allowed.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def layer_windows(config: Any) -> dict[str, int | None]:
    """The kinds of attention layers of a model, and the window of each (None: all that came before).

    Raises NotImplementedError for kinds that a tree mask cannot stand for (chunked or linear attention).
    """
    text = config.get_text_config(decoder=True)
    window = getattr(text, "sliding_window", None)
    kinds = set(getattr(text, "layer_types", None) or ())
    if not kinds:  # Mistral and its like: every layer has the window, when there is one
        return {"full_attention": None} if window is None else {"sliding_attention": window}
    if not kinds <= {"full_attention", "sliding_attention"}:
        raise NotImplementedError(f"layers of kind {', '.join(sorted(kinds))}")
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


@contextmanager
def logits_only_at(model: Any, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Within it, `model` returns logits [1, N, vocabulary] of the N places (rows[n], columns[n]) alone.

    It is the input of the language-model head that is cut, so whatever a model does after it (Gemma's soft cap,
    Cohere's and Granite's scaling) is still the model's own code.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, args: (args[0][rows, columns][None], *args[1:]))
    try:
        yield
    finally:
        hook.remove()


def tree_logits(model: Any, trees: Sequence[Tree]) -> Tensor:
    """Next-token logits [sum of K, vocabulary], float32, after every sequence of every tree, in order."""
    device, dtype = model.device, model.dtype
    # The kernels want rows of 8 numbers; padding tokens look at themselves alone, so no softmax is over nothing.
    length = -(-max(len(tree.tokens) for tree in trees) // 8) * 8
    tokens = torch.zeros(len(trees), length, dtype=torch.long)
    positions = torch.zeros_like(tokens)
    ends = torch.arange(1, length + 1).repeat(len(trees), 1)
    for row, tree in enumerate(trees):
        tokens[row, : len(tree.tokens)] = torch.tensor(tree.tokens)
        positions[row, : len(tree.tokens)] = torch.tensor(tree.positions)
        ends[row, : len(tree.tokens)] = torch.tensor(tree.ends)
    tokens, positions, ends = tokens.to(device), positions.to(device), ends.to(device)
    masks = {
        kind: attention_mask(positions, ends, dtype, window) for kind, window in layer_windows(model.config).items()
    }
    rows = torch.tensor([row for row, tree in enumerate(trees) for _ in tree.last], device=device)
    columns = torch.tensor([column for tree in trees for column in tree.last], device=device)
    with logits_only_at(model, rows, columns):
        output = model(
            input_ids=tokens,
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=positions,
            use_cache=False,
        )
    logits: Tensor = output.logits[0].float()
    return logits


def plain_logits(model: Any, sequences: Sequence[Sequence[int]], tails: Sequence[int] | None = None) -> Tensor:
    """Next-token logits [sum of tails, vocabulary], float32, of one ordinary pass a sequence, batched.

    Of each sequence the last `tails[i]` places (1 where not given), in order. Padding stands on the right, where
    causal attention never looks.
    """
    tails = tails or [1] * len(sequences)
    length = max(map(len, sequences))
    tokens = torch.zeros(len(sequences), length, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    places = [
        (row, column)
        for row, (sequence, tail) in enumerate(zip(sequences, tails, strict=True))
        for column in range(len(sequence) - tail, len(sequence))
    ]
    rows, columns = torch.tensor(places, device=model.device).T
    with logits_only_at(model, rows, columns):
        output = model(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
    logits: Tensor = output.logits[0].float()
    return logits


@torch.inference_mode()
def is_exact(model: Any) -> tuple[bool, str]:
    """Whether the tree pass equals the plain pass on this architecture, and in words what was found.

    Three sequences of random tokens, longer than the sliding window, that fork early, late and twice. The distance is
    the largest root mean square, over the vocabulary, of the difference of log-probabilities. It may be 1e-4 in
    float32 (0.05 in half precision), or three times what batching alone does to the plain pass. A window beyond
    `CHECK_WINDOW` is narrowed in the model's configuration while the check runs: it is the code of the architecture
    that is in doubt, and it reads the window there.
    """
    text = model.config.get_text_config(decoder=True)
    real = getattr(text, "sliding_window", None)
    window = min(real or CHECK_WINDOW, CHECK_WINDOW, text.max_position_embeddings - 48)
    random = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(text.vocab_size, (count,), generator=random).tolist()

    prefix = draw(window + 8)
    fork = prefix + draw(8)
    sequences = [fork + draw(16), fork + draw(8), prefix[: window // 2] + draw(window // 2 + 24)]
    try:
        if real is not None:
            text.sliding_window = window
        tree = tree_logits(model, [pack(sequences)]).log_softmax(-1)
        plain = plain_logits(model, sequences).log_softmax(-1)
        alone = torch.cat([plain_logits(model, [sequence]) for sequence in sequences]).log_softmax(-1)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return False, f"it does not take a tree mask ({type(error).__name__}: {str(error)[:200]})"
    finally:
        if real is not None:
            text.sliding_window = real
    distance, noise = _distance(tree, plain), _distance(alone, plain)
    allowed = max(1e-4 if model.dtype == torch.float32 else 0.05, 3 * noise)
    return distance <= allowed, f"tree and plain pass differ by {distance:.1e} ({allowed:.1e} allowed)"


def _distance(one: Tensor, other: Tensor) -> float:
    return (one - other).square().mean(-1).sqrt().max().item()
