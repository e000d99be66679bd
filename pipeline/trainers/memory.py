"""What a job needs of memory, said before it starts, and what it took, measured.

The estimate is arithmetic on the model's configuration, the headers of its weights and the length of the longest row:
nothing is loaded. Weights, gradients and AdamW's state are exact to a few percent. Activations count the tensors that
a layer of a Llama keeps for its backward pass (with an attention kernel that keeps no scores), for a batch that is
padded to the longest row; allocators, kernels and shorter rows move the whole: on a CPU it was 0.64 (bfloat16) to 1.28
(DPO) times what seven jobs took beyond the libraries; on one GPU, half a billion weights, 1.04 (PPO) to 3.3 times (DPO)
what four took, on rows with more characters a token than are guessed here (benchmarks/README.md).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import trainers
from pipeline.models.checkpoint import stack
from pipeline.models.checks import read_header
from pipeline.trainers.trainer import Job
from pipeline.training_rows import read_rows

LIBRARIES = 550e6  # bytes: a process that has imported torch, transformers and TRL, on a CPU
CHARACTERS = 3.0  # a token, in texts of natural language
TEMPLATE = 16  # tokens that a chat template adds to a dialogue, about
ROWS = {"sft": 1, "kto": 2, "best_of_n": 1}  # sequences of a row in one pass; other methods of pairs have two
WHOLE = re.compile(r"embed|wte|wpe|lm_head|score")  # what stays whole in 4 bits, beside norms
FOUR_BITS = 0.5 + 0.127 / 8  # bytes a number, with its block's constants (QLoRA, section 3)
KEPT_ATTENTION = ("q_proj", "v_proj")  # what peft adapts in a Llama where nothing is said


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a training step, by what they are for, in one process."""

    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size(value)}" for name, value in self.parts.items() if value)
        return f"needs about {size(self.total)}: {parts}"


def size(value: float) -> str:
    """Bytes for people: 1.2 GB."""
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def estimate(job: Job, processes: int = 1) -> Memory:
    """What a job takes in each of `processes` that share its batch, unsharded. Raises UserError where the model's
    folder or the data set cannot be read."""
    arguments = trainers.resolve(job.method, job.arguments)
    columns = trainers.load(job.method).COLUMNS
    return at(job, *_lengths(job, columns, arguments, _model(Path(job.model))[1]), processes)


def at(job: Job, longest: float, answer: float, processes: int = 1, *, least: bool = False) -> Memory:
    """The same where the longest row has so many tokens, so many of them an answer's. `least`: with one row through
    the model at a time, as a batch that does not fit is halved."""
    arguments = trainers.resolve(job.method, job.arguments)
    method = trainers.load(job.method)
    shapes, config = _model(Path(job.model))
    head = {name for name in shapes if re.search(r"\blm_head\b|embed_out", name)}
    if method.KIND == "reward_model":
        shapes = {name: shape for name, shape in shapes.items() if name not in head}
    count = sum(map(math.prod, shapes.values()))
    trained = _adapter(job.lora, shapes) if job.lora is not None else count
    trained = 0 if getattr(method, "FROZEN", False) else trained
    half = job.dtype == "bfloat16"
    weights = float(count * (2 if job.lora is not None and half else 4))
    if job.lora is not None and job.lora.get("bits"):
        whole = sum(math.prod(shape) for name, shape in shapes.items() if len(shape) < 2 or WHOLE.search(name))
        weights = whole * 4 + (count - whole) * FOUR_BITS
    online = getattr(method, "ONLINE", False)

    batch = arguments.get("per_device_train_batch_size", 1) * arguments.get("gradient_accumulation_steps", 1)
    batch = min(arguments.get("per_device_train_batch_size", 1), max(1, batch // processes))
    rows = (1 if least else batch) * (1 if online else ROWS.get(job.method, 2))
    parts: dict[str, float] = {
        "weights": weights + (trained * 4 if job.lora is not None else 0),
        "gradients": trained * 4,
        "AdamW": trained * 8,
        # PPO's value model is a copy, trained whole.
        "critic": count * 16 if arguments.get("value_trunk") == "separate" else 0,
        "reference": weights if online and job.lora is None else 0,
        "reward model": _folder_bytes(job.reward),
        "activations": _activations(config, rows * longest, half, bool(arguments.get("gradient_checkpointing"))),
        "logits": 0 if method.KIND == "reward_model" else 3 * 4 * rows * answer * config.get("vocab_size", 0),
        "libraries": 0 if _on_gpu(job) else LIBRARIES,
    }
    return Memory(parts)


def to_answer(folder: Path, dtype: str, tokens: float) -> dict[str, float]:
    """Bytes of a model that only answers: its weights, and the keys and values of one text of so many tokens."""
    shapes, config = _model(folder)
    number = 2 if dtype == "bfloat16" else 4
    hidden = config.get("hidden_size") or config.get("n_embd") or 0
    layers = config.get("num_hidden_layers") or config.get("n_layer") or 0
    heads = config.get("num_attention_heads") or config.get("n_head") or 1
    keys = (config.get("num_key_value_heads") or heads) * (config.get("head_dim") or hidden // heads)
    return {"weights": sum(map(math.prod, shapes.values())) * number, "KV": 2 * layers * keys * tokens * number}


def _model(folder: Path) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Shapes of the tensors that an adapter's base, or the folder itself, holds, and its configuration."""
    folder = stack(folder)[-1]
    config = json.loads((folder / "config.json").read_text())
    shapes = {
        name: list(entry["shape"])
        for path in sorted(folder.glob("*.safetensors"))
        for name, entry in read_header(path).items()
    }
    return shapes, {**config, **config.get("text_config", {})}


def _adapter(lora: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> float:
    """Trainable numbers of an adapter: r x (in + out) for each matrix that it is put beside."""
    targets = lora.get("target_modules") or KEPT_ATTENTION
    total = 0
    for name, shape in shapes.items():
        module = name.removesuffix(".weight").rsplit(".", 1)[-1]
        wanted = "embed" not in name and "lm_head" not in name if targets == "all-linear" else module in targets
        if len(shape) == 2 and wanted:
            total += int(lora.get("r", 8)) * sum(shape)
    return total


def _lengths(job: Job, columns: tuple[str, ...], arguments: Mapping[str, Any], config: Any) -> tuple[float, float]:
    """(longest row, its answer) in tokens, guessed from characters."""
    limit = min(filter(None, (arguments.get("max_length"), config.get("max_position_embeddings"))), default=math.inf)
    longest = answer = 0.0
    for row in read_rows(Path(job.dataset), columns):
        texts = {name: sum(len(m["content"]) for m in row[name]) for name in row if isinstance(row[name], list)}
        answers = max((tokens for name, tokens in texts.items() if name != "prompt"), default=0) / CHARACTERS
        answers = answers or float(arguments.get("max_completion_length", 0))
        row_length = texts.get("prompt", 0) / CHARACTERS + answers + TEMPLATE
        longest, answer = max(longest, min(row_length, limit)), max(answer, min(answers + 1, limit))
    return longest, answer


def _activations(config: Mapping[str, Any], tokens: float, half: bool, checkpointing: bool) -> float:
    """Bytes kept for the backward pass of `tokens` tokens, padding included."""
    hidden = config.get("hidden_size") or config.get("n_embd") or 0
    layers = config.get("num_hidden_layers") or config.get("n_layer") or 0
    heads = config.get("num_attention_heads") or config.get("n_head") or 1
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    inner = config.get("intermediate_size") or config.get("n_inner") or 4 * hidden
    # Two norms keep their input, the normalised and the scaled of it; attention keeps q and k before and after they
    # are turned, v and what comes out; the feed-forward keeps gate, its activation, up and their product.
    numbers = 6 * hidden + 3 * queries + 3 * keys + 2 * hidden + 4 * inner
    per_layer = numbers * (3 if half else 4)  # in mixed precision norms keep float32, products bfloat16
    return tokens * (layers * hidden * 4 + per_layer if checkpointing else layers * per_layer)


def _folder_bytes(reward: Mapping[str, Any] | None) -> float:
    """Bytes of the weights that a reward's specification names, one model or several."""
    total = 0.0
    for value in (reward or {}).values():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and (Path(path) / "config.json").is_file():
                total += sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    return total


def _on_gpu(job: Job) -> bool:
    torch = sys.modules.get("torch")  # not imported for this: where it is not, the answer is a guess
    return job.device == "cuda" or (job.device == "auto" and torch is not None and torch.cuda.is_available())


# --- measured ----------------------------------------------------------------------------------------------------


def reset_peak() -> None:
    """Forget the high-water mark, so that `peak` is that of what follows. Of a CPU's process Linux alone can."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: str = "auto") -> int | None:
    """Bytes at the highest since `reset_peak`: PyTorch's on a GPU, else all of this process; None where the system
    does not tell."""
    torch = sys.modules.get("torch")
    if device != "cpu" and torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    return None
