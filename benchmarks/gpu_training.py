"""`python -m benchmarks.gpu training`: SFT, then from its model a reward model, DPO, PPO and GRPO, by
`pipeline.trainers.runner`, as any job's: float32 weights, products in bfloat16.

Of each: peak memory and what the estimate said; tokens of the batch a second; the share of the device's FLOPs that
the products of weights and tokens account for; of the online methods also the share of its bandwidth while they
sample, of which every token reads all weights and the keys and values so far once. Beside them SFT, reward model and
DPO in float32 on the same rows in the same order: the same losses but for what bfloat16 rounds. (PPO's answers are
sampled, and differ from the first token on which the two do not agree.)
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import json
import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import Parts, Place, Size, share, words
from pipeline.trainers import memory
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job

PPO_EPOCHS, GROUP = 4, 4
SAME_STEPS = 6  # trained in both number formats
OFFLINE = ("sft", "reward", "dpo")
SHARES = {"sft": 0.1, "reward": 0.1, "dpo": 0.12, "ppo": 0.26, "grpo": 0.16} | {
    f"{method} in float32": 0.08 for method in OFFLINE
}


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
    # sampling, rewards, values, log-probabilities here and by the reference; policy and value model both learn
    "ppo": Passes(5, 2 * PPO_EPOCHS, 3, PPO_EPOCHS),
    "grpo": Passes(3, 1, 2, 1),  # sampling, rewards, log-probabilities by the reference
}


class Enough(Exception):
    """The time of a part is over."""


def measure(parts: Parts, size: Size, place: Place) -> None:
    import datasets

    datasets.disable_progress_bars()
    write_rows(place.folder / "rows.jsonl", size)
    for method in PASSES:
        steps = size.steps if method in OFFLINE else size.online_steps
        parts.do(method, lambda method=method, steps=steps: train(parts, method, size, place, steps))  # type: ignore[misc]
        if method in OFFLINE:
            name = f"{method} in float32"
            parts.do(name, lambda method=method: in_float32(parts, method, size, place))  # type: ignore[misc]


def write_rows(path: Path, size: Size) -> None:
    """Rows for every method, all of the same length."""
    drawn = random.Random(0)

    def said(role: str, tokens: int) -> list[dict[str, str]]:
        return [{"role": role, "content": words(drawn, tokens)}]

    with path.open("w") as file:
        for _ in range(size.batch * size.steps):
            row: dict[str, Any] = {"prompt": said("user", size.prompt), "p": 0.9}
            row |= {name: said("assistant", size.answer) for name in ("completion", "chosen", "rejected")}
            file.write(json.dumps(row) + "\n")


def arguments(method: str, size: Size, steps: int) -> dict[str, Any]:
    """A constant rate, so that few steps do the same whatever their number."""
    given: dict[str, Any] = {"max_steps": steps, "per_device_train_batch_size": size.batch, "save_steps": 10_000}
    given |= {"lr_scheduler_type": "constant", "warmup_steps": 0}
    if method in OFFLINE:
        return given | {"learning_rate": 1e-5}
    given |= {"max_completion_length": size.answer}
    return given | ({"num_ppo_epochs": PPO_EPOCHS} if method == "ppo" else {"num_generations": GROUP})


def train(parts: Parts, method: str, size: Size, place: Place, steps: int, dtype: str = "bfloat16") -> dict[str, Any]:
    """One job of at most `steps` steps. The first two are left out of the time: kernels are chosen in them."""
    folder = place.folder
    start = folder / "sft"
    job = Job(
        id=f"{method}-{dtype}",
        method=method,
        model=str(start if method != "sft" and start.is_dir() else folder / "model"),
        out=str(folder / (method if dtype == "bfloat16" else f"{method}-{dtype}")),
        dataset=str(folder / "rows.jsonl"),
        arguments=arguments(method, size, steps),
        device=place.device,
        dtype=dtype,
        reward=None if method in OFFLINE else {"kind": "model", "paths": [str(folder / "reward")]},
    )
    steps_seen: list[Mapping[str, Any]] = []

    def on_step(line: Mapping[str, Any]) -> None:
        steps_seen.append(line)
        if parts.over and len(steps_seen) >= 3:
            raise Enough

    _make_room(place)
    metrics: Mapping[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Enough):
        metrics = run(job, on_step=on_step).metrics
    peak = memory.peak(place.device)
    gaps = [later["time"] - earlier["time"] for earlier, later in itertools.pairwise(steps_seen)]
    seconds = statistics.median(gaps[1:] or gaps)
    answers = size.batch * size.answer * (2 if method in ("reward", "dpo") else 1)
    tokens = answers + size.batch * size.prompt * (2 if method == "reward" else 1)  # DPO has one prompt for a pair
    if method == "grpo":
        answers, tokens = size.batch * size.answer, size.batch * (size.prompt + size.answer)
    flops = PASSES[method].flops(tokens, answers, place.weights - size.head, size.head) / seconds
    return {
        "finished": bool(metrics),
        "steps": len(steps_seen),
        "seconds_a_step": seconds,
        "tokens_a_second": tokens / seconds,
        "flops_a_second": flops,
        "of_peak_flops": place.of_flops(flops),
        "peak_memory": peak,
        "estimate": memory.estimate(job).total,
        "rows_at_a_time": metrics.get("per_device_train_batch_size"),
        "losses": [line.get("loss") for line in steps_seen],
        **_sampling(metrics, len(steps_seen), size, place),
    }


def _sampling(metrics: Mapping[str, Any], steps: int, size: Size, place: Place) -> dict[str, Any]:
    """PPO's parts of a step, and bytes read a second while it samples: of the weights the bfloat16 copies that autocast
    keeps."""
    if "seconds_sampling" not in metrics:
        return {}
    spent = {name: metrics[f"seconds_{name}"] / steps for name in ("sampling", "scoring", "training")}
    config = size.config
    head = config["hidden_size"] // config["num_attention_heads"]
    cache = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * 2  # bytes a token
    length = metrics.get("length", size.answer)
    read = length * (place.weights * 2 + cache * size.batch * (size.prompt + length / 2))
    return {
        "seconds_of_a_step": spent,
        "sampled_tokens_a_second": length * size.batch / spent["sampling"] if spent["sampling"] else None,
        "of_bandwidth": place.of_bandwidth(read / spent["sampling"]) if spent["sampling"] else None,
    }


def in_float32(parts: Parts, method: str, size: Size, place: Place) -> dict[str, Any]:
    """The same job in float32, for a few steps, and how far its losses are from those in bfloat16."""
    steps = min(SAME_STEPS, size.steps)
    found = train(parts, method, size, place, steps, "float32")
    half = parts.found.get(method, {}).get("losses", [])
    pairs = list(zip(found["losses"], half, strict=False))
    apart = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return {**found, "losses_in_bfloat16": half[: len(pairs)], "max_loss_difference": max(apart, default=None)}


def _make_room(place: Place) -> None:
    """What the job before left is freed: a peak is to be this one's."""
    gc.collect()
    if place.device != "cpu":
        torch.cuda.empty_cache()


def lines(found: Mapping[str, Any]) -> list[str]:
    shown = [
        f"batches of {found['batch']}, prompts of {found['tokens']['prompt']} tokens and answers of "
        f"{found['tokens']['answer']}",
        f"{'':18}{'peak memory':>12}{'estimate':>10}{'tokens/s':>10}{'s a step':>10}{'of peak FLOPs':>15}{'steps':>7}",
    ]
    for name in SHARES:
        figures = found.get(name)
        if not figures or "error" in figures:
            shown.append(f"{name:18}{figures['error'] if figures else 'not begun'}")
            continue
        peak = memory.size(figures["peak_memory"]) if figures["peak_memory"] else "-"
        shown.append(
            f"{name:18}{peak:>12}{memory.size(figures['estimate']):>10}{figures['tokens_a_second']:>10,.0f}"
            f"{figures['seconds_a_step']:>10.3f}{share(figures['of_peak_flops']):>15}{figures['steps']:>7}"
        )
    for method in OFFLINE:
        figures = found.get(f"{method} in float32", {})
        if figures.get("max_loss_difference") is not None:
            shown.append(
                f"{method}: losses in float32 "
                + " ".join(f"{loss:.4f}" for loss in figures["losses"][: len(figures["losses_in_bfloat16"])])
                + ", in bfloat16 "
                + " ".join(f"{loss:.4f}" for loss in figures["losses_in_bfloat16"])
                + f": {figures['max_loss_difference']:.1e} apart at most"
            )
    if parts := found.get("ppo", {}).get("seconds_of_a_step"):
        spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
        shown.append(
            f"ppo: seconds of a step: {spent}; it samples {found['ppo']['sampled_tokens_a_second']:,.0f} tokens/s, "
            f"{share(found['ppo']['of_bandwidth'])} of the bandwidth"
        )
    return shown
