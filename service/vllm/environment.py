"""vLLM's own virtual environment, made from a lock file that ships.

`cpu` is a lock of every package (`locks/cpu.lock`; 2.4 GB, five to eight minutes). `cuda` pins vLLM alone
(`locks/cuda.lock`), which brings the build of torch that it was compiled against.

What is dear to make is kept under the hash of the lock file that it is made from (`kept`), so that another lock makes
another.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from constitution.errors import UserError
from pipeline.models.packaged import once, pip
from service.settings import cache_folder

Kind = Literal["cpu", "cuda"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LOCKS = Path(__file__).parent / "locks"
MAKE = "precept engine install"


def fitting() -> Kind:
    """The environment for this machine: `cuda` where it has NVIDIA's driver."""
    there = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    return "cuda" if there else "cpu"


def is_made(kind: Kind) -> bool:
    return place("vllm", LOCKS / f"{kind}.lock").is_dir()


def python(kind: Kind) -> Path:
    """The Python of the environment. Raises UserError where it is not made yet."""
    if not is_made(kind):
        raise UserError(
            f"vLLM's own environment is not made yet: {MAKE}{'' if kind == fitting() else f' --for {kind}'} makes it, "
            "once (in a checkout also: make vllm); or name the Python of one that is there: --python PATH"
        )
    return place("vllm", LOCKS / f"{kind}.lock") / "bin" / "python"


def make(kind: Kind, say: Callable[[str], None]) -> Path:
    """The Python of the environment, which is made where it is absent. Raises UserError with pip's last words."""
    lock = LOCKS / f"{kind}.lock"
    return kept("vllm", lock, lambda folder: _install(folder, lock), say) / "bin" / "python"


def place(name: str, lock: Path) -> Path:
    return cache_folder() / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"


def kept(name: str, lock: Path, make: Callable[[Path], None], say: Callable[[str], None]) -> Path:
    """The folder that `make` makes of a lock file, in its place; made where it is absent, whole or not at all."""
    there = place(name, lock)
    if not there.is_dir():
        say(f"making {there} from {lock.name}: once")
    return once(there, make)


def _install(folder: Path, lock: Path) -> None:
    # `venv` writes the folder's own path into its scripts; they are not used, only its Python is.
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    own = folder / "bin" / "python"
    locked = [line for line in lock.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    torch = [line for line in locked if line.startswith("torch==")]
    if not torch:  # a pin of vLLM alone, with what it needs
        pip(own, "install", *locked)
        return
    pip(own, "install", *torch)  # alone and first, with what it needs: where it comes from is the index's business
    pip(own, "install", "--no-deps", *(line for line in locked if line not in torch))
