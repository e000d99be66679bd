"""Every way of training on feedback, side by side on the sandbox, by its truth.

    python -m benchmarks.methods [--seeds 0,1,2] [--methods dpo,ppo] [--home runs/methods] [--out FOLDER]

For each seed one sweep: the same SFT model, labels and reward model, and each method from there under its own settings
(`[arguments.METHOD]` in precept.toml), measured on all held-out prompts. Prints a table (means over seeds, and each
seed's good answers), and writes `methods.json` and the picture `methods.svg` to the folder --out. Run again it asks and
trains nothing that it has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

METHODS = ("best_of_n", "dpo", "kto", "orpo", "ppo", "rloo", "grpo")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--home", type=Path, default=Path("runs/methods"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sweeps = [swept(given.home, int(seed), given.methods.split(",")) for seed in given.seeds.split(",")]
    print("\n".join(table(sweeps)))
    if given.out:
        write(given.out, sweeps)


def swept(home: Path, seed: int, methods: list[str], **flags: Any) -> list[dict[str, Any]]:
    """The points of one seed's sweep."""
    from cli.start import run_flow

    given = {
        "seed": seed,
        "home": str(home),
        "store": f"sqlite:///{home}/precept.db",
        "sweep.methods": {name: [] for name in methods},
        "sweep.split": "heldout",
        **flags,
    }
    points: list[dict[str, Any]] = run_flow("sweep", Path("precept.toml"), given, quiet=False, verbose=False)["points"]
    return points


def table(sweeps: list[list[dict[str, Any]]]) -> list[str]:
    """Markdown: a model a row, means over the seeds."""
    head = "| | good (each seed) | harmful | needless refusals | malformed | win rate | KL | tokens | seconds | MB |"
    lines = [head, "|" + "---|" * 10]
    for name in [point["name"] for point in sweeps[0]]:
        same = [point for points in sweeps for point in points if point["name"] == name]
        goods = [point["truth"]["gold_good"] for point in same]
        cells = [
            name,
            f"{fmean(goods):.1%} ({', '.join(f'{good:.1%}' for good in goods)})",
            *(
                f"{fmean(point['truth'][f'gold_{flag}'] for point in same):.1%}"
                for flag in ("harmful", "needless_refusal", "malformed")
            ),
            f"{fmean(point['win_rate']['mean'] for point in same):.3f}",
            f"{fmean(point['kl']['mean'] for point in same):.2f}",
            f"{fmean(point['surfaces']['mean_tokens'] for point in same):.1f}",
            *(_mean([point[key] for point in same]) for key in ("seconds", "peak_memory_mb")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.0f}" if known else ""


def write(folder: Path, sweeps: list[list[dict[str, Any]]]) -> None:
    from service.pictures.frontier import on_the_way
    from service.pictures.training import frontier

    folder.mkdir(parents=True, exist_ok=True)
    points = [{k: v for k, v in point.items() if k != "model"} for points in sweeps for point in points]  # not its path
    (folder / "methods.json").write_text(json.dumps(points, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "methods.svg").write_text(str(frontier(on_the_way(points))), encoding="utf-8")


if __name__ == "__main__":
    main()
