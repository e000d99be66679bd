"""Whether two model folders hold the same weights, whatever lies around them: copies, other names, shards or number
formats, another tokenizer or chat template.

Compared tensor by tensor and only until the first that differs, so that two models of one architecture are told apart
in milliseconds; where all are equal both are read whole, once. An adapter's weights are its own and those below it: a
model and an adapter of it are two models. This module imports torch inside its functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.models import checkpoint

FLOATS = ("F64", "F32", "F16", "BF16")


def same_weights(one: Sequence[Path], other: Sequence[Path]) -> bool:
    """`one`, `other`: a model's folders, its adapters first, as `checkpoint.stack` has them. A checkpoint that was
    merged has the weights of the one it was merged from. Raises UserError for weights that cannot be read."""
    if [folder.resolve() for folder in one] == [folder.resolve() for folder in other]:
        return True
    if len({_job(one[0]), _job(other[0])} - {None}) == 1 and _job(one[0]) == _job(other[0]):
        return True
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _job(folder: Path) -> str | None:
    manifest = checkpoint.read(folder)
    return manifest.job if manifest else None


def _equal(one: Path, other: Path) -> bool:
    import torch
    from safetensors import SafetensorError

    try:
        with ExitStack() as opened:
            here, there = (_tensors(folder, opened) for folder in (one, other))
            if {name: _kind(part, name) for name, part in here.items()} != {
                name: _kind(part, name) for name, part in there.items()
            }:
                return False
            for name in sorted(here):
                a, b = here[name].get_tensor(name), there[name].get_tensor(name)
                # A copy in bfloat16 is the model it was made from.
                if a.dtype != b.dtype and a.is_floating_point():
                    a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)
                if not torch.equal(a, b):
                    return False
            return True
    except (OSError, SafetensorError) as error:
        raise UserError(f"{one} or {other}: the weights cannot be read ({error}); copy the folder again") from None


def _tensors(folder: Path, opened: ExitStack) -> dict[str, Any]:
    """By tensor's name, the open file that it is in."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for file in _files(folder):
        part = opened.enter_context(safe_open(file, framework="pt"))
        found |= dict.fromkeys(part.keys(), part)
    return found


def _files(folder: Path) -> Iterator[Path]:
    adapter = (folder / checkpoint.ADAPTER).is_file()
    yield from sorted(folder.glob("adapter_model*.safetensors" if adapter else "model*.safetensors"))


def _kind(part: Any, name: str) -> tuple[Any, ...]:
    tensor = part.get_slice(name)
    dtype = tensor.get_dtype()
    return ("float" if dtype in FLOATS else dtype, *tensor.get_shape())
