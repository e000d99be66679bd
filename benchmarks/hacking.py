"""Reward hacking for real: PPO against its reward model, with and without what is to prevent it.

    python -m benchmarks.hacking [--seeds 0,1,2] [--updates 16] [--home runs/methods] [--out FOLDER]

Four conditions a seed: one reward model or the minimum of an ensemble of three, at a KL coefficient of 0 and
of 0.05. The learning rate is high and the training long on purpose. The watch looks and does not stop here, so
that what it would have prevented can be seen: a line says at which update its rule fired, which update it would have
kept, and the truth of the policy there, at its best and at the end; and, after "judge alone", at which update it would
have been stopped without a KL budget, which one it would have kept then, and its truth. The watch cannot see truth.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from benchmarks.methods import swept
from pipeline.trainers.stop_rules import Look, decide, kept
from pipeline.trainers.watching import LOOKS, SAMPLES

COEFFICIENTS = (0.0, 0.05)
CONDITIONS = {
    "one": {"reward.models": 1},
    "minimum of 3": {"reward.models": 3, "optimise.reward": {"combine": "minimum"}},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--home", type=Path, default=Path("runs/methods"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    head = ("seed", "reward", "kl_coef", "rule fired at", "would keep")
    print(f"| {' | '.join(head)} | good: start | there | best | end | proxy: start | end | judge alone |")
    print("|" + "---|" * 12)
    for seed in map(int, given.seeds.split(",")):
        for rewarded, flags in CONDITIONS.items():
            hot = {"max_steps": given.updates, "learning_rate": given.learning_rate, "lr_scheduler_type": "constant"}
            flags = {
                "arguments.ppo": hot,
                "watch.stop": False,
                "watch.every": 2,
                "sweep.split": "dev",
                "sweep.methods": {"ppo": list(COEFFICIENTS)},
                **flags,
            }
            for point in swept(given.home, seed, [], **flags):
                if point["looks"]:
                    point |= {"reward_models": rewarded, "judge_alone": judge_alone(Path(point.pop("model")))}
                    found.append(point)
                    print(line(seed, rewarded, point), flush=True)
    if given.out:
        write(given.out, found)


def judge_alone(model: Path) -> tuple[int, int] | None:
    """At which step a run would have been stopped without a budget of KL, and the step it would have kept, by what the
    watch wrote into its checkpoint; None where it would not have been."""
    samples: dict[int, list[dict[str, Any]]] = {}
    for sample in _lines(model / SAMPLES):
        samples.setdefault(sample["step"], []).append(sample)
    told = _lines(model / LOOKS)
    looks: list[Look] = []
    for look in told:
        scores = samples[look["step"]]
        kl = math.nan if look["kl"] is None else look["kl"]
        looks.append(Look(look["step"], [s["proxy"] for s in scores], [s["judge"] for s in scores], kl))
        if (stop := decide(looks, len(told))) and (good := kept(looks)):
            return stop.step, good.step
    return None


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def line(seed: int, rewarded: str, point: dict[str, Any]) -> str:
    """A row of the table: what the watch said, and the truth that it could not see."""
    looks = {look["step"]: look for look in point["looks"]}
    good = {step: look["gold_good"] for step, look in looks.items()}
    first, last = min(looks), max(looks)
    held, alone = point["watch_kept_step"], point["judge_alone"]
    cells = [
        str(seed), rewarded, f"{point['leash']:g}", str(point.get("watch_stopped_step") or "never"), str(held),
        *(f"{value:.1%}" for value in (good[first], good[held], max(good.values()), good[last])),
        *(f"{looks[step]['proxy']:.2f}" for step in (first, last)),
        "never" if alone is None else f"at {alone[0]}, keeps {alone[1]}: {good[alone[1]]:.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def write(folder: Path, found: list[dict[str, Any]]) -> None:
    from service.pictures.training import hacking

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hacking.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "hacking.svg").write_text(str(hacking(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
