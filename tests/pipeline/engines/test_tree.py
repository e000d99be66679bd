"""Packing sequences into a tree: what each token sees must be its own sequence, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.tree import attention_mask, pack

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=6)


@given(sequences, st.one_of(st.none(), st.integers(1, 5)))
def test_each_token_sees_its_own_sequence(sequences: list[list[int]], window: int | None) -> None:
    tree = pack(sequences)
    positions, ends = torch.tensor([tree.positions]), torch.tensor([tree.ends])
    seen = attention_mask(positions, ends, torch.float32, window)[0, 0] == 0
    for sequence, last in zip(sequences, tree.last, strict=True):
        path = [i for i in range(len(tree.tokens)) if i <= last < tree.ends[i]]
        assert [tree.tokens[i] for i in path] == sequence
        assert [tree.positions[i] for i in path] == list(range(len(sequence)))
        for depth, i in enumerate(path):
            first = 0 if window is None else max(0, depth - window + 1)
            assert seen[i].nonzero()[:, 0].tolist() == path[first : depth + 1]
    prefixes = {tuple(sequence[: n + 1]) for sequence in sequences for n in range(len(sequence))}
    assert len(tree.tokens) == len(prefixes)  # nothing twice


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        pack([[1], []])
