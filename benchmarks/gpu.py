"""Half a billion weights on one GPU, against what the GPU could do, as two commands of at most four minutes each.

    python -m benchmarks.gpu training [--out FILE]   # SFT, reward model, DPO, PPO, GRPO: `gpu_training`
    python -m benchmarks.gpu engines [--out FILE]    # decoding and judging by the transformers engine: `gpu_engines`
    ... --device cpu --tiny                          # the same path on any machine, in a minute: a test, no figures

The model has the shapes of Qwen2.5-0.5B (24 layers, 896 wide, 14 heads and 2 for keys, 4,864 in the feed-forward, a
vocabulary of 151,936: 494M weights) and random weights, which take the time that trained ones take; its tokenizer is
made here, from synthetic words, a token each.

Every part has its share of `--seconds` and stops itself when that is over; what was measured until then counts, and is
written to `--out` after each part. A part that fails is told as that, and the next one goes on.

Peaks are the vendor's, dense, bfloat16: H100 SXM 989 TFLOP/s and 3.35 TB/s, H200 989 and 4.8, A100 312 and 2.0.
FLOPs a token and weight: 2 a forward pass, 4 a backward pass; attention's own are left out (at these lengths some
percent), and so is what is padded or computed a second time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12)}  # FLOP/s, bytes a second
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "the a baker cat dog sings runs blue red apple help with please thanks lock open door window".split()


@dataclass(frozen=True)
class Size:
    """The model's shape; tokens of a prompt and of an answer; rows of a training step; steps of a training on rows, and
    of an online one; answers sampled together; comparisons that are judged."""

    config: Mapping[str, int]
    prompt: int
    answer: int
    batch: int
    steps: int
    online_steps: int
    together: tuple[int, ...]
    comparisons: int

    @property
    def head(self) -> int:
        """Weights of the language-model head, which are those of the embeddings."""
        return self.config["vocab_size"] * self.config["hidden_size"]


SIZES = {
    "0.5B": Size(
        {
            "vocab_size": 151_936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
        },
        prompt=256,
        answer=256,
        batch=16,
        steps=20,
        online_steps=5,
        together=(1, 16, 64, 256),
        comparisons=128,
    ),
    "tiny": Size(
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        },
        prompt=24,
        answer=16,
        batch=4,
        steps=3,
        online_steps=3,
        together=(1, 4),
        comparisons=4,
    ),
}


@dataclass(frozen=True)
class Place:
    """Where it runs: the device, its peaks (FLOP/s, bytes a second; None: not known), and a folder with `model`."""

    device: str
    folder: Path
    weights: int
    peaks: tuple[float, float] | None

    @property
    def dtype(self) -> str:
        """Of the engines: a CPU computes bfloat16 slowly."""
        return "float32" if self.device == "cpu" else "bfloat16"

    def of_flops(self, a_second: float) -> float | None:
        return a_second / self.peaks[0] if self.peaks else None

    def of_bandwidth(self, a_second: float) -> float | None:
        return a_second / self.peaks[1] if self.peaks else None


class Parts:
    """Parts one after another, each with its share of the time that is left; what each gave is kept at once."""

    def __init__(self, found: dict[str, Any], seconds: float, shares: Mapping[str, float], out: Path | None) -> None:
        self.found, self._shares, self._out = found, dict(shares), out
        self._end = time.monotonic() + seconds
        self.until = self._end

    def do(self, name: str, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What `work` gave; `until` says to it when to stop. Nothing where it failed."""
        left = self._end - time.monotonic()
        self.until = time.monotonic() + max(0.0, left) * self._shares[name] / sum(self._shares.values())
        del self._shares[name]
        began = time.monotonic()
        print(f"{name} ... ({left:.0f} s left)", file=sys.stderr, flush=True)
        try:
            given = dict(work()) if left > 0 else {"error": "no time was left"}
        except Exception as error:
            traceback.print_exc()
            given = {"error": f"{type(error).__name__}: {error}"[:500]}
        given["seconds"] = round(time.monotonic() - began, 2)
        self.found[name] = given
        if self._out:
            self._out.write_text(json.dumps(self.found, indent=2) + "\n")
        return given

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until


def make_model(folder: Path, size: Size) -> int:
    """A Qwen2 of random weights and a byte-level tokenizer; the vocabulary beyond its tokens is never asked for.
    Returns how many weights it has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(size.config["vocab_size"], 4096),
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(WORDS), " " + " ".join(WORDS)] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        **size.config,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(weights.numel() for weights in model.parameters())


def words(drawn: random.Random, count: int) -> str:
    return " ".join(drawn.choice(WORDS) for _ in range(count))


def measure(command: str, size: Size, device: str, seconds: float, out: Path | None) -> dict[str, Any]:
    import transformers

    from benchmarks import gpu_engines, gpu_training

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    name = torch.cuda.get_device_name() if device != "cpu" else "CPU"
    peaks = next((peak for known, peak in PEAKS.items() if known in name), None)
    found: dict[str, Any] = {
        "command": command,
        "device": name,
        "processors": os.cpu_count(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "transformers", "trl", "peft", "accelerate")},
        "tokens": {"prompt": size.prompt, "answer": size.answer},
        "batch": size.batch,
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found["weights"] = make_model(folder / "model", size)
        found["made"] = round(time.monotonic() - began, 2)
        place = Place(device, folder, found["weights"], peaks)
        module = gpu_training if command == "training" else gpu_engines
        parts = Parts(found, seconds - (time.monotonic() - began), module.SHARES, out)
        module.measure(parts, size, place)
    return found


def report(found: dict[str, Any]) -> str:
    from benchmarks import gpu_engines, gpu_training

    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    head = f"{found['device']}: {found['weights'] / 1e6:.0f}M weights; {versions}"
    return "\n".join([head, *(gpu_training if found["command"] == "training" else gpu_engines).lines(found)])


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Half a billion weights on one GPU.")
    parser.add_argument("command", choices=["training", "engines"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: whether it runs, not how fast")
    parser.add_argument("--seconds", type=float, default=225, help="at most, but for what starting takes")
    parser.add_argument("--batch", type=int, help="rows of a training step")
    parser.add_argument("--out", type=Path, help="write the results there as JSON, after each part")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "no GPU here; `--device cpu --tiny` tries the path without one\n")
    size = SIZES["tiny" if given.tiny else "0.5B"]
    if given.batch:
        size = replace(size, batch=given.batch)
    found = measure(given.command, size, given.device, given.seconds, given.out)
    print(json.dumps(found, indent=2) if given.json else report(found))


if __name__ == "__main__":
    main()
