"""What a model on disk is, as one digest: its weights, configuration, tokenizer and chat template, and the dtype.

A copy of the folder has the same fingerprint, and one changed weight has another. Where it lies, the device, the batch
size and the versions of libraries have no part in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from constitution.records import canonical

# What decides the answers, beside the weights. No folder has all of them.
TEXTS = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
# Where a folder was made and by what: it changes without the model changing.
PROVENANCE = {"_name_or_path", "name_or_path", "transformers_version", "peft_version", "base_model_name_or_path"}
_digests: dict[tuple[str, int, int], str] = {}  # of weight files by (path, size, time of change), for this process


def fingerprint(folders: Sequence[Path], dtype: str) -> str:
    """Digest (32 hex digits) of model folders: one, or an adapter and its base."""
    files = [{file.name: _digest(file) for file in sorted(folder.iterdir()) if _counts(file)} for folder in folders]
    text = canonical({"kind": "model", "files": files, "dtype": dtype})
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


def _counts(file: Path) -> bool:
    return file.suffix == ".safetensors" or file.name in TEXTS


def _digest(file: Path) -> str:
    if file.suffix == ".safetensors":
        return _weights_digest(file)
    data = file.read_bytes()
    if file.name.endswith("config.json"):
        settings = {key: value for key, value in json.loads(data).items() if key not in PROVENANCE}
        data = json.dumps(settings, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _weights_digest(file: Path) -> str:
    status = file.stat()
    key = (str(file.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with file.open("rb") as opened:
            _digests[key] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _digests[key]
