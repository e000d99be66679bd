"""What vLLM is told: its command line and its environment, on a CPU and on NVIDIA's GPUs, and what mends a bad start.

By default it listens on this machine alone, shows its tokenizer to whoever can reach it (so that judged text is safe
for a client that has no folder of it), and loads no code of a model's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from constitution.errors import UserError
from service.vllm.environment import Kind
from service.vllm.models import RANKS, Model

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ON_A_CPU = ("--enforce-eager", "--block-size", "32", "--gpu-memory-utilization", "0.2", "--max-num-seqs", "64")
OF_A_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
    "TORCHDYNAMO_DISABLE": "1",  # without it the first request for log-probabilities takes minutes
}
ALWAYS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
OURS = ("PYTHONPATH", "OMP_NUM_THREADS", "VIRTUAL_ENV")  # of this process's own Python
_MENDS: tuple[tuple[str, str], ...] = (
    (r"larger than the (available|maximum number of tokens|.{0,40}KV cache)|KV cache.{0,80}(needed|available)",
     "its context does not fit into the memory for it: -- --max-model-len 4096"),
    (r"out of memory|OutOfMemory|Free memory on device|No available memory",
     "the device has not enough free memory: see what else is on it, name another with --device, or give it less: "
     "-- --gpu-memory-utilization 0.5 --max-model-len 4096"),
    (r"[Aa]ddress already in use", "its port was taken in the meantime: leave out --port"),
    (r"No module named '?vllm", "that Python has no vLLM: leave out --python, or make one: precept engine install"),
    (r"(LoRA|lora).{0,80}(not support|unsupported)", "this model takes no adapters: merge (precept model merge)"),
    (r"unrecognized arguments|invalid choice", "this vLLM does not know an option that it was given"),
    (r"libcuda|CUDA driver|NVIDIA driver|no CUDA-capable", "CUDA does not work here: --device cpu, or mend the driver"),
    (r"Killed|signal 9|code -9", "the system ended it, for want of memory perhaps: take a smaller model"),
    (r"trust_remote_code", "the model wants code of its own to be run, which is not done: take another model"),
)  # fmt: skip


def devices_of(given: str, kind: Kind) -> str:
    """GPUs as vLLM's process is shown them, "0" or "0,1", of `cuda:0`, `0,1`, `cpu` or `auto`; "" for a CPU, or for
    what there is. Raises UserError."""
    if kind == "cpu" or given in ("", "auto", "cpu"):
        if kind == "cpu" and given not in ("", "auto", "cpu"):
            raise UserError(
                f"--device {given}: this is vLLM for CPUs; `precept engine install --for cuda` makes the other"
            )
        return ""
    numbers = [part.strip().removeprefix("cuda:") for part in given.split(",")]
    if not all(number.isdigit() for number in numbers) or len(set(numbers)) < len(numbers):
        raise UserError(f"--device {given}: write cpu, auto, or GPUs by their numbers: 0 or cuda:0,cuda:1")
    return ",".join(numbers)


def refuse_open(host: str, dev: bool, key: bool) -> None:
    """Raise UserError for a server that others could reach, without a key or with what is for this machine alone."""
    if host in LOOPBACK:
        return
    if dev:
        raise UserError(
            f"--dev opens routes by which whoever reaches the server changes its weights: not with --host {host}; "
            "leave out --host"
        )
    if not key:
        raise UserError(
            f"--host {host} lets others reach the server: put a key into OPENAI_API_KEY first, which it will ask for; "
            "or leave out --host"
        )


def command(
    python: str, model: Model, host: str, port: int, kind: Kind, dtype: str, devices: str, further: Sequence[str]
) -> list[str]:
    """The command line. `further` are words of vLLM's own, which stand over what is said here."""
    words = [python, "-m", "vllm.entrypoints.openai.api_server", "--host", host, "--port", str(port)]
    words += ["--model", str(model.weights), "--tokenizer", str(model.tokenizer), "--served-model-name", model.name]
    words += ["--dtype", dtype, *(ON_A_CPU if kind == "cpu" else ())]
    if "," in devices:
        words += ["--tensor-parallel-size", str(devices.count(",") + 1)]
    if host in LOOPBACK:
        words.append("--enable-tokenizer-info-endpoint")
    if model.adapters:
        words += ["--enable-lora", "--max-lora-rank", str(next(rank for rank in RANKS if rank >= model.rank))]
        words += ["--max-loras", str(len(model.adapters))]
        words += ["--lora-modules", *(f"{name}={folder}" for name, folder in model.adapters.items())]
    return [*words, *further]


def environment(
    today: Mapping[str, str], python: str, kind: Kind, devices: str, dev: bool = False, key: str = ""
) -> dict[str, str]:
    """The environment of its process: what is set there today stands over what is said here, but for devices."""
    found = {**ALWAYS, **(OF_A_CPU if kind == "cpu" else {}), **{k: v for k, v in today.items() if k not in OURS}}
    found["PATH"] = f"{Path(python).parent}:{today.get('PATH', '')}"  # compilers that its kernels are made with
    for name in ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_API_KEY"):
        found.pop(name, None)
    if devices:
        found["CUDA_VISIBLE_DEVICES"] = devices
    if dev:
        found |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if key:
        found["VLLM_API_KEY"] = key
    return found


def mend(log: Path) -> str:
    """What to do about a server that ended while it started, by what is in its log."""
    try:
        said = log.read_text(encoding="utf-8", errors="replace")[-40_000:]
    except OSError:
        said = ""
    found = next((what for words, what in _MENDS if re.search(words, said)), "")
    return found or "its log says why; mend that, and run the same again"
