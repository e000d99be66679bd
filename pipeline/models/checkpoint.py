"""A checkpoint folder: how it is published, recognised and checked. Loading and merging is in `merging.py`.

    model.safetensors, config.json, tokenizer.json, ...   a plain Hugging Face folder (or a LoRA adapter's)
    README.md, training.json, progress.jsonl              the model card, the arguments, the curve
    watch.jsonl, samples.jsonl                            of online training: the evaluation steps, and their answers
    manifest.json                                         written last: every other file with its SHA-256

Weights are written into `out.partial`, the manifest after everything else is on disk, and then the folder is renamed:
a folder without its manifest is no checkpoint, and a reader never sees half of one. No file is a pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from constitution.errors import UserError

Kind: TypeAlias = Literal["policy", "reward_model"]
MANIFEST = "manifest.json"
ADAPTER = "adapter_config.json"  # what makes a folder an adapter's
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
TRAINING = "training.json"
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja")
HEADS = (".score.weight", ".classifier.weight", ".classifier.out_proj.weight")  # as transformers' architectures name it
_moved: dict[tuple[Path, str], Path] = {}  # where a base was found again, by adapter and the base's digest


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says. `digest` covers the files a model is loaded from, not the card, the curve or times."""

    job: str
    kind: Kind
    method: str
    digest: str
    parent: str  # digest of the folder it started from
    dataset: str  # SHA-256 of the data set's file
    created: str  # ISO 8601, UTC
    files: Mapping[str, str]  # relative path -> SHA-256
    metrics: Mapping[str, Any] = field(default_factory=dict)


def read(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint, or None where the folder is none. The files are not looked at: see `verify`."""
    try:
        return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def verify(folder: Path) -> Manifest:
    """The manifest, after every file was hashed against it. Raises UserError where a file is missing or altered."""
    manifest = read(folder)
    if manifest is None:
        raise UserError(f"{folder}: no readable {MANIFEST}, so this is no finished checkpoint; train it again")
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{folder}: {name} is missing; delete the folder and train it again")
        if file_digest(path) != digest:
            raise UserError(f"{folder}: {name} is not what was published; delete the folder and train it again")
    return manifest


def weights_digest(folder: Path) -> str:
    """The digest of what a model is loaded from: a checkpoint's from its manifest, another folder's by reading it."""
    manifest = read(folder)
    return manifest.digest if manifest else _model_digest(folder)


def base_of(folder: Path) -> Path | None:
    """The folder that an adapter was put onto, of another adapter or of full weights; None for full weights.

    An adapter names its base by path. Where nothing lies there any more, because a home or a project was moved, it is
    looked for by the end of that path beside and above the adapter, and taken where it is what the adapter's manifest
    says it was trained on. Raises UserError where the name cannot be read.
    """
    file = folder / ADAPTER
    if not file.is_file():
        return None
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str) or not name:
        raise UserError(
            f"{file} does not name its base model; set base_model_name_or_path to the folder of the base model"
        )
    base, manifest = Path(name).expanduser(), read(folder)
    if base.exists() or manifest is None:
        return base
    if (known := _moved.get((folder.resolve(), manifest.parent))) and known.is_dir():
        return known
    ends = [Path(*base.parts[start:]) for start in range(1, len(base.parts))]
    for found in (above / end for above in folder.resolve().parents for end in ends):
        if (found / ADAPTER).is_file() or (found / "config.json").is_file():
            with contextlib.suppress(OSError, ValueError):
                if weights_digest(found) == manifest.parent:
                    _moved[folder.resolve(), manifest.parent] = found
                    return found
    return base


def stack(folder: Path) -> list[Path]:
    """`folder`, what it is an adapter of, and so on down to the folder of full weights, which comes last.

    Raises UserError, in one line, for adapters that stand on each other in a circle and for a base that is not there.
    """
    found = [folder]
    seen = {folder.resolve()}
    while (base := base_of(found[-1])) is not None:
        if base.resolve() in seen:
            raise UserError(
                f"{folder}: its adapters stand on each other in a circle ({found[-1].name} names {base} as its base), "
                "so there are no weights below them; copy the folder again"
            )
        if not base.is_dir():
            raise UserError(
                f"{found[-1]} is an adapter of {base}, and there is no such model folder; put the base back there, or "
                f"name where it lies now in {found[-1] / ADAPTER}"
            )
        found.append(base)
        seen.add(base.resolve())
    return found


def heads(folder: Path) -> int:
    """How many rewards a reward model gives each text: the rows of its head. An adapter without a head of its own has
    that of the model below it. Raises UserError where there is none, or the weights cannot be read."""
    from safetensors import SafetensorError, safe_open

    for file in (file for each in stack(folder) for file in sorted(each.glob("*.safetensors"))):
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in filter(lambda name: f".{name}".endswith(HEADS), tensors.keys()):
                    return int(tensors.get_slice(name).get_shape()[0])
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: cannot be read ({error}); the file is damaged, copy the folder again") from None
    raise UserError(f"{folder}: holds no reward head, so it is no reward model; train one with method reward")


def copy_tokenizer(folder: Path, to: Path) -> None:
    """A tokenizer and its chat template as they are: saving a loaded one writes down how it was loaded."""
    for path in {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, to / path.name)


def seal(partial: Path, out: Path, **known: Any) -> Manifest:
    """Write the manifest of a folder that is whole, and rename it to `out`: from then on it is a checkpoint. Raises
    RuntimeError where it holds a pickle."""
    if pickles := [path.name for pattern in PICKLES for path in partial.rglob(pattern)]:
        raise RuntimeError(f"{partial}: {pickles[0]} would be published; a checkpoint holds no pickle")
    paths = sorted(path for path in partial.rglob("*") if path.is_file() and path.name != MANIFEST)
    manifest = Manifest(
        digest=_model_digest(partial),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        files={path.relative_to(partial).as_posix(): file_digest(path) for path in paths},
        **known,
    )
    _sync([*paths, partial])
    text = json.dumps(dataclasses.asdict(manifest), indent=2, sort_keys=True, allow_nan=False)
    (partial / MANIFEST).write_text(text + "\n", encoding="utf-8")
    _sync([partial / MANIFEST, partial])
    partial.rename(out)
    _sync([out.parent])
    return manifest


def _model_digest(folder: Path) -> str:
    paths = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.name not in (MANIFEST, TRAINING)}
    files = {path.name: file_digest(path) for path in paths}
    if ADAPTER in files:
        # An adapter names its base by path; what it is depends on what lies there, not on where.
        config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = weights_digest(stack(folder)[1])
        files[ADAPTER] = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
