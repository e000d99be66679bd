"""What the gate promotes and refuses, on simulated evaluations: an equal model, gains, losses, and what looks like one.

    python -m benchmarks.gates [--draws 2000]

No model is asked. An evaluation of n prompts is drawn: who is better (no difference on six in ten prompts), lengths,
refusals of the six in ten that are harmless (a twentieth of the answers before), and stock sentences (a tenth before),
each answer after drawn anew, as a model that samples answers anew. What the gate says is `pipeline.promote.decide`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import promote
from pipeline.metrics import win_rate
from pipeline.metrics.intervals import interval_of, ratio_of

SIZES = (100, 250, 500)
HARMLESS = 0.6
CONDITIONS = {
    "win rate": "; win rate", "length-controlled": "length-controlled", "refusals": "refusals of harmless",
    "stock": "stock sentences", "length": "times as long", "too few": "too few to tell",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What is true of a model beside the one before, in points of a share."""

    name: str
    gain: float = 0.0  # of the win rate: better minus worse is twice that
    refuses: float = 0.0  # more of the harmless requests
    stock: float = 0.0  # more answers with a stock sentence
    longer: float = 0.0  # of the logarithm of the length
    by_length: float = 0.0  # how much a longer answer alone is liked


MODELS = (
    Model("equal"),
    Model("better by 5 points", gain=0.05),
    Model("better by 10 points", gain=0.10),
    Model("better by 20 points", gain=0.20),
    Model("worse by 10 points", gain=-0.10),
    Model("better by 20, refuses 10 points more", gain=0.20, refuses=0.10),
    Model("better by 20, refuses 20 points more", gain=0.20, refuses=0.20),
    Model("better by 20, stock sentences on 40 points more", gain=0.20, stock=0.40),
    Model("equal, a little longer, and length is liked", longer=0.2, by_length=2.0),
    Model("better by 20, twice as long", gain=0.20, longer=0.69),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    args = parser.parse_args()
    head = " | ".join(f"fails by {name}" for name in CONDITIONS)
    print(f"| the model is truly | n | promoted | {head} |\n|---|---|---|{'---|' * len(CONDITIONS)}")
    for model in MODELS:
        for n in (50, *SIZES):
            promoted, failed = decided(model, n, args.draws)
            print(f"| {model.name} | {n} | {promoted:.1%} | " + " | ".join(f"{x:.0%}" for x in failed.values()) + " |")
    print(
        "\nA limit of 5 points on refusals, three ways: how often it refuses a model that refuses as many as before, "
        "and one that refuses 10 points more.\n\n"
        "| harmless prompts | refused before | the figure within 5: none more | 10 more | its interval within 5: none "
        "more | 10 more | its interval reaches 5: none more | 10 more |\n|---|---|---|---|---|---|---|---|"
    )
    for n in (25, 60, 150, 300):
        for before in (0.02, 0.05, 0.15):
            print(f"| {n} | {before:.0%} | " + " | ".join(f"{x:.0%}" for x in limits(n, before, args.draws)) + " |")


def decided(model: Model, n: int, draws: int, gate: promote.Gate | None = None) -> tuple[float, dict[str, float]]:
    """Share promoted, and by condition the share that fails it."""
    rng, promoted = np.random.default_rng(n), 0
    failed = dict.fromkeys(CONDITIONS, 0)
    for _ in range(draws):
        found = promote.decide(gate or promote.Gate(), evaluation(model, n, rng), None, ratified=True)
        promoted += found.promoted
        lost = [reason for reason in found.reasons if reason.startswith("failed")]
        for name, mark in CONDITIONS.items():
            failed[name] += any(mark in reason for reason in lost)
    return promoted / draws, {name: count / draws for name, count in failed.items()}


def evaluation(model: Model, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """One drawn evaluation, as `service.work.evaluation` makes it."""
    old, new = (np.round(rng.lognormal(3 + more, 0.4, n)) for more in (0.0, model.longer))
    if model.by_length:
        chance = 1 / (1 + np.exp(-model.by_length * np.tanh((new - old) / (new - old).std())))
        won = (rng.random(n) < chance).astype(float)
        values = np.where(rng.random(n) < 0.6, 0.5, won)
    else:
        values = rng.choice([1.0, 0.5, 0.0], n, p=[0.2 + model.gain, 0.6, 0.2 - model.gain])
    harmless = rng.random(n) < HARMLESS
    refused = [_flags(rng, 0.05 + more, n)[harmless] for more in (0.0, model.refuses)]
    stock = [_flags(rng, 0.10 + more, n) for more in (0.0, model.stock)]
    controlled = win_rate.controlled(values.tolist(), (5 * (new - old)).tolist()).as_dict()
    sides = [
        {"refusals_of_harmless": _mean(r), "boilerplate": _mean(s), "mean_tokens": _mean(t), "truncated": 0.0}
        for r, s, t in zip(refused, stock, (old, new), strict=True)
    ]
    return {
        "prompts": n, "unreadable": 0.0, "win_rate": win_rate.summary(values.tolist()),
        "length_controlled": controlled["mean"], "length_controlled_interval": controlled,
        "before": sides[0], "after": sides[1],
        "changes": {
            "refusals_of_harmless": _change(*refused), "boilerplate": _change(*stock),
            "length_ratio": {**ratio_of(new.tolist(), old.tolist()).as_dict(), "n": n},
        },
    }  # fmt: skip


def _flags(rng: np.random.Generator, rate: float, n: int) -> np.ndarray:
    return (rng.random(n) < rate).astype(float)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _change(before: np.ndarray, after: np.ndarray) -> Mapping[str, Any]:
    return {**interval_of((after - before).tolist(), least=-1).as_dict(), "n": len(before)}


def limits(n: int, before: float, draws: int) -> list[float]:
    """How often each way refuses, for no more refusals and for 10 points more."""
    rng, found = np.random.default_rng(n), {}
    for more in (0.0, 0.10):
        seen = [
            interval_of((_flags(rng, before + more, n) - _flags(rng, before, n)).tolist(), -1) for _ in range(draws)
        ]
        found[more] = [np.mean([getattr(i, end) > 0.05 for i in seen]) for end in ("mean", "high", "low")]
    return [float(found[more][way]) for way in range(3) for more in (0.0, 0.10)]


if __name__ == "__main__":
    main()
