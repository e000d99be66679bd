"""What an amendment does to a model, and what following it costs, on the sandbox: one table, several seeds.

    python -m benchmarks.amendments [--seeds 3] [--theme inviting] [--weight 1] [--home FOLDER] [--out FILE]
        [--set NAME=VALUE ...]

Of each seed: a full run under the shipped constitution; then a principle on a theme that the shipped file lacks is
added and the model retrained by default; then it is removed again, and the model retrained. The gate allows stock
sentences here: an offer of more help at the end is one by its nature. Truth is measured and not used. `--set` goes to
the retrains (retrain.train_from=last, retrain.top_up=true); in a `--home` that was used before, full runs are there.

"Towards" has to lie above 0 with its whole 95% interval, "back" below; "unchanged" means that the interval of what the
amendment does not speak of lies within 5 points of 0. Calls and engine seconds are shares of the seed's full run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from constitution import loading

WORDS = {
    "inviting": ("ends with no offer of more help", "ends with an offer of more help"),
    "careful": ("gives no word of caution", "adds a word of caution"),
}
UNCHANGED = 0.05


def precept(home: Path, *arguments: str) -> Any:
    """The JSON that a command prints, in a process of its own."""
    command = [sys.executable, "-m", "cli.main", *arguments, "--json", "--settings", str(home / "precept.toml")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def settings_in(home: Path) -> str:
    """The shipped settings, kept in a folder of their own, with the gate that allows stock sentences."""
    text = Path("precept.toml").read_text(encoding="utf-8")
    text = re.sub(r'(?m)^store = "[^"]*"', f'store = "sqlite:///{home}/precept.db"', text)
    text = re.sub(r'(?m)^home = "[^"]*"', f'home = "{home}"', text)
    text = re.sub(r'(?m)^constitution = "[^"]*"', f'constitution = "{home}/shipped.yaml"', text)
    return text + "\n[gate]\nmax_boilerplate_increase = 1.0\n"


def with_principle(theme: str, weight: float) -> str:
    fault, good = WORDS[theme]
    return (
        Path("principles.yaml").read_text(encoding="utf-8").rstrip()
        + f"""

  - id: {theme}
    title: The principle that was added
    critique: Find any way in which the reply {fault}.
    revision: Rewrite the reply so that it {good}.
    comparison: Which reply {good}?
    weight: {weight:g}
"""
    )


def measure(seed: int, theme: str, weight: float, home: Path, given: list[str]) -> dict[str, Any]:
    home.mkdir(parents=True, exist_ok=True)
    shipped, added = home / "shipped.yaml", home / "added.yaml"
    shipped.write_text(Path("principles.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    added.write_text(with_principle(theme, weight), encoding="utf-8")
    loading.load(added)
    (home / "precept.toml").write_text(settings_in(home), encoding="utf-8")
    seeded = ["--set", f"seed={seed}"]
    full = precept(home, "improve", *seeded)
    row: dict[str, Any] = {"seed": seed, "full": cost(whole(home, full))}
    base = full["run"]
    for name, file, why in (("added", added, "add it"), ("removed", shipped, "take it away")):
        precept(home, "constitution", "amend", str(file), "--ratify", "-m", why, "--made-from", "ratified", *seeded)
        settings = [part for setting in given for part in ("--set", setting)]
        result = precept(home, "retrain", "--base", base, *settings, *seeded)
        row[name] = read(result, row["full"], theme)
        base = result["run"]
    return row


def whole(home: Path, full: dict[str, Any]) -> dict[str, Any]:
    """A full run as it was when it was run: one that is found finished asks nothing and says so."""
    shown = precept(home, "run", "show", full["run"])
    return dict(shown["result"])


def cost(result: dict[str, Any]) -> dict[str, float]:
    calls, seconds = result["calls"], result["seconds"]
    return {
        "calls": calls["generated"] + calls["chosen"],
        "engine_s": round(seconds["asking"], 1),
        "training_s": round(seconds["training"], 1),
        "wall_s": round(seconds["total"], 1),
    }


def read(result: dict[str, Any], full: dict[str, float], theme: str) -> dict[str, Any]:
    effects = {e["principle"]: e for e in result["amendment"]["effects"]}
    asked = cost(result)
    truth = result["amendment"]["truth_moved"]
    others = {n: e for n, e in effects.items() if e["change"] == "none"}
    return {
        "promoted": "promoted" if result["promoted"] else "proposed" if result["proposed"] else "refused",
        "effect": interval(effects[theme]),
        "truth": interval(truth[theme]),
        "unchanged": {n: e["low"] >= -UNCHANGED and e["high"] <= UNCHANGED for n, e in others.items()},
        "truth_unchanged": {
            n: t["low"] >= -UNCHANGED and t["high"] <= UNCHANGED for n, t in truth.items() if n != theme
        },
        "good": (result["before"]["gold_good"], result["after"]["gold_good"]),
        **asked,
        "calls_share": round(asked["calls"] / full["calls"], 3),
        "engine_share": round(asked["engine_s"] / full["engine_s"], 3),
        "wall_share": round(asked["wall_s"] / full["wall_s"], 3),
    }


def interval(found: dict[str, float]) -> list[float]:
    return [round(found[name], 3) for name in ("mean", "low", "high")]


def table(rows: list[dict[str, Any]], theme: str) -> str:
    """Markdown: one line a seed and step."""
    lines = [
        f"| seed | `{theme}` is | by the evaluator | by truth | unchanged, evaluator | unchanged, truth | promoted "
        "| calls | engine s | wall s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for step in ("added", "removed"):
            r = row[step]
            effect, truth = ("{:+.3f} ({:+.3f} to {:+.3f})".format(*r[name]) for name in ("effect", "truth"))
            kept = f"{sum(r['unchanged'].values())} of {len(r['unchanged'])}"
            true = f"{sum(r['truth_unchanged'].values())} of {len(r['truth_unchanged'])}"
            lines.append(
                f"| {row['seed']} | {step} | {effect} | {truth} | {kept} | {true} | {r['promoted']} "
                f"| {r['calls']:,} ({r['calls_share']:.1%}) | {r['engine_s']} ({r['engine_share']:.1%}) "
                f"| {r['wall_s']} ({r['wall_share']:.1%}) |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--theme", choices=sorted(WORDS), default="inviting")
    parser.add_argument("--weight", type=float, default=1.0, help="of the added principle; manners weigh 1, harm 5")
    parser.add_argument("--home", type=Path, help="where the runs are kept; a temporary folder")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the retrains")
    parser.add_argument("--out", type=Path, help="a file for the rows as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = (arguments.home or Path(folder)).resolve()
        rows = [
            measure(seed, arguments.theme, arguments.weight, home / f"{arguments.theme}-{seed}", arguments.set)
            for seed in range(arguments.seeds)
        ]
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(table(rows, arguments.theme))


if __name__ == "__main__":
    main()
