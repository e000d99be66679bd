"""A policy of half a billion weights through SFT, reward model, DPO, PPO and GRPO on one GPU, against what it could do.

    python -m benchmarks.gpu [--steps N] [--batch N] [--json]
    python -m benchmarks.gpu --device cpu --tiny    # the same path on any machine, in a minute: a test, no figures

The model has the shapes of Qwen2.5-0.5B (24 layers, 896 wide, 14 heads and 2 for keys, 4,864 in the feed-forward, a
vocabulary of 151,936: 494M weights) and random weights, which take the time that trained ones take; its tokenizer is
made here, from synthetic text. Training is by `pipeline.trainers.runner`, as any job's: float32 weights, products in
bfloat16. It prints, for each method, peak memory, what the estimate said, tokens a second, and the share of the
device's bfloat16 FLOPs that the products of weights and tokens account for (attention's are left out: at these
lengths some percent; what is padded or computed twice does not count); and for decoding the share of its bandwidth,
of which every step reads all weights and the keys and values so far once. FLOPs a token and weight: 2 a forward pass,
4 a backward pass.

Peaks are the vendor's, dense: H100 SXM 989 TFLOP/s and 3.35 TB/s, H200 989 and 4.8, A100 312 and 2.0.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.trainers import memory
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12)}  # FLOP/s, bytes a second
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "the a baker cat dog sings runs blue red apple help with please thanks lock open door window".split()
PPO_EPOCHS = 4


@dataclass(frozen=True)
class Passes:
    """Over each token in one step: forward ones (2 FLOPs a weight) and those with a backward pass (6), by the layers,
    and by the head, which works at answers' places alone."""

    forward: int
    learned: int
    head_forward: int
    head_learned: int

    def flops(self, tokens: float, answers: float, layers: float, head: float) -> float:
        body = (2 * self.forward + 6 * self.learned) * tokens * layers
        return body + (2 * self.head_forward + 6 * self.head_learned) * answers * head


PASSES = {
    "sft": Passes(0, 1, 0, 1),
    "reward": Passes(0, 1, 0, 0),
    "dpo": Passes(0, 1, 0, 1),
    "ppo": Passes(4, 2 * PPO_EPOCHS, 3, PPO_EPOCHS),  # answers, log-probabilities here and there, values; both learn
    "grpo": Passes(2, 1, 2, 1),  # answers, the reference
}


@dataclass(frozen=True)
class Size:
    """What is trained and on what: the model's shape, and tokens of a prompt and of an answer."""

    config: Mapping[str, int]
    prompt: int
    answer: int
    batch: int


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
    ),
    "tiny": Size(
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        },
        prompt=24,
        answer=16,
        batch=4,
    ),
}


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


def make_rows(size: Size, count: int) -> list[dict[str, Any]]:
    """Rows for every method, all of the same length: a word is a token."""
    drawn = random.Random(0)

    def said(role: str, tokens: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(drawn.choice(WORDS) for _ in range(tokens))}]

    rows = []
    for _ in range(count):
        row: dict[str, Any] = {"prompt": said("user", size.prompt), "p": 0.9}
        row |= {name: said("assistant", size.answer) for name in ("completion", "chosen", "rejected")}
        rows.append(row)
    return rows


def arguments(method: str, size: Size, steps: int) -> dict[str, Any]:
    given: dict[str, Any] = {"max_steps": steps, "per_device_train_batch_size": size.batch, "save_steps": 10_000}
    if method == "ppo":
        given |= {"max_completion_length": size.answer, "num_ppo_epochs": PPO_EPOCHS}
    if method == "grpo":
        given |= {"max_completion_length": size.answer, "num_generations": 4}
    return given


def train(method: str, folder: Path, size: Size, steps: int, weights: int, device: str) -> dict[str, Any]:
    """One job of `steps` steps. The first two are left out of the time: kernels are chosen in them."""
    job = Job(
        id=method,
        method=method,
        model=str(folder / "model"),
        out=str(folder / method),
        dataset=str(folder / "rows.jsonl"),
        arguments=arguments(method, size, steps),
        device=device,
        dtype="bfloat16",
        reward={"kind": "model", "paths": [str(folder / "reward")]} if method in ("ppo", "grpo") else None,
    )
    times: list[float] = []
    manifest = run(job, on_step=lambda line: times.append(line["time"]))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)][min(1, steps - 2) :]
    seconds = statistics.median(gaps)
    answers = size.batch * size.answer * (2 if method in ("reward", "dpo") else 1)
    tokens = answers + size.batch * size.prompt * (2 if method == "reward" else 1)  # DPO has one prompt for a pair
    head = size.config["vocab_size"] * size.config["hidden_size"]
    return {
        "peak_memory": manifest.metrics.get("peak_memory_mb", 0) * 1e6,
        "estimate": memory.estimate(job).total,
        "tokens_a_second": tokens / seconds,
        "flops_a_second": PASSES[method].flops(tokens, answers, weights - head, head) / seconds,
        "seconds_a_step": seconds,
        "loss": manifest.metrics.get("loss"),
    }


def decode(folder: Path, size: Size, device: str, batch: int) -> dict[str, float]:
    """Sampling by the project's engine: tokens a second, and bytes that it has to read a second."""
    from constitution.records import Message
    from pipeline.engines.engine import Chat, EngineSettings, Generate, Sampling
    from pipeline.engines.transformers import build

    dtype = "float32" if device == "cpu" else "bfloat16"
    engine = build(EngineSettings(model=str(folder / "model"), device=device, dtype=dtype, batch_size=batch))
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    chats = [Chat((Message("user", rows[n % len(rows)]["prompt"][0]["content"]),)) for n in range(batch)]
    asked = [Generate(chat, Sampling(1.0, 1.0, size.answer), seed) for seed, chat in enumerate(chats)]
    engine.generate(asked)
    start = time.monotonic()
    tokens = sum(completion.tokens for completion in engine.generate(asked))
    seconds = time.monotonic() - start
    number = 4 if dtype == "float32" else 2
    weights = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors")) / 2 * number
    head = size.config["hidden_size"] // size.config["num_attention_heads"]
    cache = 2 * size.config["num_hidden_layers"] * size.config["num_key_value_heads"] * head * number  # a token
    read = size.answer * weights + cache * tokens * (size.prompt + size.answer / 2)
    return {"batch": batch, "tokens_a_second": tokens / seconds, "bytes_a_second": read / seconds}


def measure(size: Size, steps: int, device: str) -> dict[str, Any]:
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    on_gpu = device != "cpu" and torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = make_model(folder / "model", size)
        rows = make_rows(size, size.batch * 4)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found: dict[str, Any] = {"device": name, "weights": weights, "steps": steps, "batch": size.batch}
        found["tokens"] = {"prompt": size.prompt, "answer": size.answer}
        found["decoding"] = [decode(folder, size, device, batch) for batch in (1, size.batch)]
        found["training"] = {}
        for method in PASSES:
            print(f"{method} ...", file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):
                found["training"][method] = train(method, folder, size, steps, weights, device)
    peaks = next((peak for known, peak in PEAKS.items() if known in name), None)
    if peaks:
        for figures in found["training"].values():
            figures["of_peak_flops"] = figures["flops_a_second"] / peaks[0]
        for figures in found["decoding"]:
            figures["of_bandwidth"] = figures["bytes_a_second"] / peaks[1]
    return found


def report(found: dict[str, Any]) -> str:
    lines = [
        f"{found['device']}: {found['weights'] / 1e6:.0f}M weights, batches of {found['batch']}, prompts of "
        f"{found['tokens']['prompt']} tokens and answers of {found['tokens']['answer']}",
        f"{'':10}{'peak memory':>12}{'estimate':>12}{'tokens/s':>12}{'s a step':>10}{'of peak FLOPs':>15}",
    ]
    for method, figures in found["training"].items():
        share = f"{figures['of_peak_flops']:.1%}" if "of_peak_flops" in figures else "-"
        lines.append(
            f"{method:10}{memory.size(figures['peak_memory']):>12}{memory.size(figures['estimate']):>12}"
            f"{figures['tokens_a_second']:>12,.0f}{figures['seconds_a_step']:>10.3f}{share:>15}"
        )
    for figures in found["decoding"]:
        share = f", {figures['of_bandwidth']:.1%} of the bandwidth" if "of_bandwidth" in figures else ""
        lines.append(f"decoding {figures['batch']:3d} at a time: {figures['tokens_a_second']:,.0f} tokens/s{share}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training half a billion weights on one GPU.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: whether it runs, not how fast")
    parser.add_argument("--steps", type=int, default=8, help="of each method, at least 3")
    parser.add_argument("--batch", type=int, help="rows a step")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "no GPU here; `--device cpu --tiny` tries the path without one\n")
    size = SIZES["tiny" if given.tiny else "0.5B"]
    if given.batch:
        size = Size(size.config, size.prompt, size.answer, given.batch)
    found = measure(size, max(3, 3 if given.tiny else given.steps), given.device)
    print(json.dumps(found, indent=2) if given.json else report(found))


if __name__ == "__main__":
    main()
