"""Models out of folders whose adapters may be stacked: a LoRA of a LoRA of full weights, as deep as it goes.

Adapters below others are merged in float32, the lowest first, and rounded to the number format that is asked for once,
at the end: so a trainer, an engine and a merged folder have the same weights, bit by bit, below what is trained or
applied last. Nothing of a folder's code is run.

This module imports transformers and peft inside its functions: `check_model_folder` looks at the folders first.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.models import stops
from pipeline.models.checkpoint import (
    ADAPTER,
    TRAINING,
    Manifest,
    copy_tokenizer,
    heads,
    seal,
    stack,
    verify,
)
from pipeline.models.checks import check_model_folder


def load(folder: Path, architecture: Any, **options: Any) -> Any:
    """A model from its folder, adapters merged into the weights below them.

    `architecture` is a transformers auto class; `options` go to its `from_pretrained`. A classifier may stand on the
    adapter of a language model, whose trunk is then what is adapted; its head is drawn anew. Raises UserError where an
    adapter does not fit what it names as its base.
    """
    *adapters, lowest = stack(folder)
    if not adapters:
        return architecture.from_pretrained(lowest, use_safetensors=True, **options)
    import torch

    dtype = options.pop("dtype", None)
    model = architecture.from_pretrained(lowest, use_safetensors=True, dtype=torch.float32, **options)
    return rounded(merged(model, adapters), dtype or dtype_of(lowest)).requires_grad_(True)  # peft had frozen it


def merged(model: Any, adapters: Sequence[Path]) -> Any:
    """`model`, of full weights in float32, with adapters merged into it: the last one, which is the lowest, first."""
    for adapter in reversed(adapters):
        model = adapted(model, adapter).merge_and_unload()
        model.__dict__.pop("peft_config", None)  # peft forgets to, and warns of a second adapter that is the only one
    return model


def adapted(model: Any, folder: Path) -> Any:
    """A PeftModel: `model` with the layers of one adapter in place, in the format of the model's own weights.

    Raises UserError where the adapter is of another kind of model, or lacks weights: peft would go on without them.
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(folder))
    classifies = type(model).__name__.endswith("ForSequenceClassification")
    if config.task_type == "SEQ_CLS" and not classifies:
        raise UserError(
            f"{folder} is the adapter of a reward model, and it is wanted here as a language model; name the policy"
        )
    if config.task_type == "CAUSAL_LM" and classifies:
        config.task_type = None  # the trunk is the same; peft would look for a language model's methods
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        if kept := getattr(config, "modules_to_save", None):
            config.modules_to_save = [name for name in kept if name in names] or None  # a classifier has no lm_head
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found: Any = PeftModel.from_pretrained(model, str(folder), config=config, use_safetensors=True)
    if any("missing adapter keys" in str(warning.message) for warning in told):
        raise UserError(
            f"{folder}: the adapter lacks weights of the model that it names as its base; it was trained on another "
            "model, or a file was replaced: copy the folder again"
        )
    return found


def rounded(model: Any, dtype: Any) -> Any:
    """`model` with its weights in another number format. Its buffers (the angles of positions) stay as they are."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    model.config.dtype = dtype
    return model


def dtype_of(folder: Path) -> Any:
    """The number format that full weights were saved in, as their config.json says: float32 where it does not."""
    import torch

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    found = getattr(torch, str(name).removeprefix("torch."), None)
    return found if isinstance(found, torch.dtype) else torch.float32


def merge(folder: Path, out: Path) -> Manifest:
    """A LoRA checkpoint as a folder of full weights with a manifest of its own. Raises UserError where it is none."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    manifest = verify(folder)
    check_model_folder(folder)
    if not (folder / ADAPTER).is_file():
        raise UserError(f"{folder}: holds full weights, there is no adapter to merge")
    if out.exists():
        raise UserError(f"{out}: exists; choose another folder for the merged model")
    partial = Path(f"{out}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if manifest.kind == "reward_model":
        model = load(folder, AutoModelForSequenceClassification, num_labels=heads(folder))
        model.config.pad_token_id = AutoTokenizer.from_pretrained(folder).pad_token_id  # finds a text's last token
    else:
        model = load(folder, AutoModelForCausalLM)
    model.save_pretrained(partial)
    copy_tokenizer(folder, partial)
    for name in ("README.md", TRAINING, *([stops.NAME] if (folder / stops.NAME).is_file() else [])):
        shutil.copyfile(folder / name, partial / name)
    return seal(
        partial,
        out,
        job=manifest.job,
        kind=manifest.kind,
        method=manifest.method,
        parent=manifest.digest,
        dataset=manifest.dataset,
        metrics=manifest.metrics,
    )
