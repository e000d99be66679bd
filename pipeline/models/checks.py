"""What is wrong with a model folder, told before anything heavy is loaded: a pickle, code, weights that are cut."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.models.checkpoint import ADAPTER, PICKLES, stack

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def check_model_folder(folder: Path) -> None:
    """A Hugging Face model folder (or a LoRA folder) in safetensors, whole, that asks for no code of its own.

    Raises UserError. Nothing is loaded: a pickle would run code while being looked at.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such model folder")
    *adapters, lowest = stack(folder)
    below = _check_folder(lowest, adapter=False)
    for each in adapters:
        vocabulary = _check_folder(each, adapter=True)
        if vocabulary and below and vocabulary != below:
            raise UserError(
                f"{each}: its tokenizer has another vocabulary than the model it adapts, {lowest}; an adapter works "
                "only on the model that it was trained on"
            )


HEADS = ("lm_head", "score")  # modules that may have no weights of their own in a folder: tied, or drawn anew
_LAYER = re.compile(r"\.(?:layers|layer|h|blocks)\.(\d+)\.")


def check_lora(folder: Path, lora: Mapping[str, Any] | None, where: str) -> None:
    """Raises UserError for an adapter's modules and layers that the model in `folder` does not have, by the names of
    its weights. What only the library can say, of a pattern for example, is left to it."""
    if not lora:
        return
    tensors = [name for path in stack(folder)[-1].glob("*.safetensors") for name in read_header(path)]
    modules = {name.rpartition(".")[0] for name in tensors}
    last = {name.rpartition(".")[2] for name in modules} | {*HEADS}
    given = lora.get("target_modules")
    if isinstance(given, str) and given != "all-linear":
        try:
            re.compile(given)
        except re.error as error:
            raise UserError(f"{where}: target_modules is {given!r}, which is no pattern: {error}") from None
        if given.isidentifier() and given not in modules | {*HEADS}:  # a text is a pattern for a module's whole name
            mend = f'write ["{given}"]' if given in last else f"it has {', '.join(sorted(last)[:20])}"
            raise UserError(f"{where}: target_modules is {given!r}, and no module of {folder} is called so; {mend}")
    elif isinstance(given, list) and given and not any(str(one).rpartition(".")[2] in last for one in given):
        raise UserError(
            f"{where}: target_modules is {given!r}, and {folder} has no such module; it has "
            f"{', '.join(sorted(last)[:20])}"
        )
    layers = {int(found[1]) for name in tensors if (found := _LAYER.search(f".{name}"))}
    chosen = lora.get("layers_to_transform")
    chosen = [chosen] if isinstance(chosen, int) else chosen or []
    if layers and chosen and not layers & {*chosen}:
        raise UserError(f"{where}: layers_to_transform is {chosen}; the layers of {folder} are 0 to {max(layers)}")


def _check_folder(folder: Path, adapter: bool) -> Any:
    """One folder, without what lies below it. Returns its vocabulary, where tokenizer.json has it."""
    config = _read_json(folder / (ADAPTER if adapter else "config.json"))
    tokenizer_config = _read_json(folder / "tokenizer_config.json")
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
        if content.get("auto_map"):
            raise UserError(
                f"{folder / name}: asks for code of its own (auto_map), which is never run; use a model "
                "that transformers knows"
            )
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise UserError(f"{folder}: tokenizer.json is missing; copy the tokenizer's files beside the weights")
    _check_weights(folder, "adapter_model" if adapter else "model")
    return _vocabulary(folder)


def _check_weights(folder: Path, stem: str) -> None:
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = set(_read_json(index).get("weight_map", {}).values())
    else:
        shards = {f"{stem}.safetensors"}
    missing = sorted(shard for shard in shards if not (folder / shard).is_file())
    if not missing:
        for shard in sorted(shards):
            read_header(folder / shard)
        return
    if pickles := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        raise UserError(
            f"{folder}: the weights are a pickle ({pickles[0]}), which can run code when it is loaded; "
            "convert them to safetensors"
        )
    raise UserError(f"{folder}: {missing[0]} is missing; the folder is incomplete, copy or download it again")


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Of each tensor in a safetensors file its `dtype` and `shape`, from the file's beginning alone.

    Raises UserError where the file is cut short or is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            header = json.loads(file.read(length)) if length <= size else {}
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        whole = 8 + length + max(entry["data_offsets"][1] for entry in tensors.values())
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be read: {error.strerror}") from None
    except (struct.error, ValueError, AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: is damaged, it does not begin as a safetensors file; copy it again") from None
    if size != whole:
        raise UserError(f"{path}: is damaged, {size} bytes of {whole}; copy it again")
    return tensors


def _vocabulary(folder: Path) -> Any:
    """What tokenizer.json numbers its tokens by; None where the tokenizer is kept in another form."""
    if not (folder / "tokenizer.json").is_file():
        return None
    model = _read_json(folder / "tokenizer.json").get("model")
    return model.get("vocab") if isinstance(model, dict) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: {path.name} is missing; the folder is incomplete, copy it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold one JSON object")
    return content
