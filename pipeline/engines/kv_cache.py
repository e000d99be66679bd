"""Keys and values of a decoding that have room to grow.

transformers' own layer copies all it has for every new token: half of a step on a CPU (64 rows of 300 tokens of
SmolLM2, `benchmarks/decoding.py`). Here a token is written into its place, and all is copied once in `ROOM` tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 128  # tokens


class Roomy(DynamicLayer):  # type: ignore[misc]
    """Keys and values [batch, heads, tokens, size], the first `tokens` places of tensors that are longer."""

    def __init__(self, filled: DynamicLayer) -> None:
        super().__init__()
        self.dtype, self.device = filled.dtype, filled.device
        self.keys, self.values = filled.keys, filled.values
        self.is_initialized = True
        self.rooms: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        had, has = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self.rooms is None or has > self.rooms[0].shape[-2]:
            self.rooms = (_longer(self.keys, has + ROOM), _longer(self.values, has + ROOM))
        keys, values = self.rooms
        keys[..., had:has, :] = key_states
        values[..., had:has, :] = value_states
        self.keys, self.values = keys[..., :has, :], values[..., :has, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.rooms = None  # what is left has tensors of its own


def with_room(cache: Any) -> Any:
    """The cache that a model's first pass returned, with room where a layer keeps all. What slides stays as it is."""
    layers: Any = getattr(cache, "layers", ())
    for place, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layers[place] = Roomy(layer)
    return cache


def _longer(held: Tensor, tokens: int) -> Tensor:
    longer = held.new_empty((*held.shape[:-2], tokens, held.shape[-1]))
    longer[..., : held.shape[-2], :] = held
    return longer
