"""A model folder, checked before anything in it is read by a loader, then loaded.

Refused: weights that are pickles (they run code when they are opened), configurations that ask for code of their own
(`auto_map`), folders that miss a file. Each refusal is one message that names the file and says what to do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.models import merging
from pipeline.models.checkpoint import base_of

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
CONFIGS = (
    "config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "adapter_config.json",
    "processor_config.json",
    "preprocessor_config.json",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
DOWNLOADS = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]  # from a hub: never a pickle, never code


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model's parts lie: `adapters` are those that are put onto the weights, the one that was named first, the
    one next to the weights last; none unless the folder named was a PEFT adapter's."""

    weights: Path
    adapters: tuple[Path, ...]
    tokenizer: Path

    @property
    def folders(self) -> list[Path]:
        """Every folder that has a part in the model: what its fingerprint covers."""
        return [*self.adapters, self.weights]


def find_model(name: str, revision: str = "") -> ModelFolder:
    """The checked folder of a local path, or of a model on the hub (fetched once, kept in the hub's cache), with what
    it is an adapter of, as deep as that goes.

    Raises UserError for what is missing, unsafe or unreadable.
    """
    return _find(name, revision, ())


def _find(name: str, revision: str, above: tuple[Path, ...]) -> ModelFolder:
    folder = _locate(name, revision)
    if folder.resolve() in above:
        raise UserError(f"{name}: it and adapters above it name each other as their base; copy the folders again")
    configs = {file: _read_json(folder / file) for file in CONFIGS if (folder / file).is_file()}
    for file, config in configs.items():
        if "auto_map" in config:
            raise UserError(
                f"{folder / file} asks for code of its own (`auto_map`), which is never run. "
                "Use a model of an architecture that transformers knows, or remove that entry if it does."
            )
    adapter = configs.get("adapter_config.json")
    missing = [] if adapter is not None or "config.json" in configs else ["config.json"]
    missing += _missing_weights(folder, "adapter_model" if adapter is not None else "model")
    if adapter is not None:
        _refuse_missing(folder, missing)
        return _with_base(folder, adapter, (*above, folder.resolve()))
    missing += _missing_tokenizer(folder, configs.get("tokenizer_config.json", {}))
    _refuse_missing(folder, missing)
    return ModelFolder(weights=folder, adapters=(), tokenizer=folder)


def _with_base(folder: Path, adapter: dict[str, Any], above: tuple[Path, ...]) -> ModelFolder:
    if adapter.get("task_type") == "SEQ_CLS":
        raise UserError(f"{folder} is the adapter of a reward model, which answers nothing. Name a policy's folder.")
    name = str(base_of(folder))
    try:
        base = _find(name, "", above)
    except UserError as error:
        raise UserError(f"{folder} is an adapter, and its base model cannot be used: {error}") from None
    own = not _missing_tokenizer(folder, _read_json(folder / "tokenizer_config.json"))
    return ModelFolder(base.weights, (folder, *base.adapters), folder if own else base.tokenizer)


def _locate(name: str, revision: str) -> Path:
    if not name:
        raise UserError("No model is named. Set `model` to a folder, or to a model's name on the hub (`owner/name`).")
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    on_hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) and not path.parent.exists()
    if path.exists() or not on_hub:
        raise UserError(f"{name}: there is no such model folder. Check the path, or train or download the model first.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=DOWNLOADS))
    except Exception as error:  # the hub's client raises many kinds: offline, no such name, no permission
        raise UserError(
            f"{name} is no folder here, and could not be fetched from the hub: {str(error).splitlines()[0]}"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}). Restore it from where the model came from.") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} must hold a JSON object. Restore it from where the model came from.")
    return value


def _missing_weights(folder: Path, stem: str) -> list[str]:
    """Names of the weight files that are not there. Raises UserError where there are pickles in their stead."""
    index = folder / f"{stem}.safetensors.index.json"
    if (folder / f"{stem}.safetensors").is_file():
        return []
    if index.is_file():
        shards = set(_read_json(index).get("weight_map", {}).values())
        if not shards or any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
            raise UserError(f"{index} does not name weight files of its own folder. Restore it from its source.")
        return sorted(shard for shard in shards if not (folder / shard).is_file())
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise UserError(
            f"{folder / pickles[0]} is a pickle, which can run code when it is opened, so it is not. "
            f"Convert the weights to {stem}.safetensors where you trust them (model.save_pretrained does)."
        )
    return [f"{stem}.safetensors"]


def _missing_tokenizer(folder: Path, config: dict[str, Any]) -> list[str]:
    missing = []
    if not any((folder / name).is_file() for name in TOKENIZERS):
        missing.append("tokenizer.json")
    templates = ("chat_template.jinja", "chat_template.json")
    if not config.get("chat_template") and not any((folder / name).is_file() for name in templates):
        missing.append("chat_template.jinja")
    return missing


def _refuse_missing(folder: Path, missing: list[str]) -> None:
    if missing:
        raise UserError(
            f"{folder} is not a whole model: it has no {', no '.join(missing)}. Copy what is missing from where the "
            "model came from, or save the model and its tokenizer (with a chat template) into the folder again."
            + (
                " A base model has no template: docs/judges.md has a plain one to put beside it."
                if missing == ["chat_template.jinja"]
                else ""
            )
        )


def load(found: ModelFolder, dtype: str, device: str) -> tuple[Any, Any]:
    """The model, in evaluation mode on its device, and its tokenizer. Raises UserError for what cannot be loaded."""
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a bar for every load, on a terminal that shows our own progress
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(found.tokenizer, trust_remote_code=False)
        top, *lower = found.adapters or (None,)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            found.weights,
            dtype=torch.float32 if lower else getattr(torch, dtype),
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        model, report = loaded
        if lower:
            model = merging.rounded(merging.merged(model, lower), getattr(torch, dtype))
        if top is not None:
            # The base model with the adapter's layers in place: not merged, which would round them in bfloat16.
            model = merging.adapted(model, top).get_base_model()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"{found.folders[0]} could not be loaded: {type(error).__name__}: {error}. A file may be damaged or of "
            "another model; copy the folder again."
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    # Without this a folder of something else (a reward model) would answer from a head of random numbers.
    if report["missing_keys"]:
        names = sorted(report["missing_keys"])
        raise UserError(
            f"{found.weights} lacks {len(names)} weights of a language model ({', '.join(names[:3])}). "
            "It may be a reward model, or of another architecture than its config.json says."
        )
    return model.to(device).eval(), tokenizer
