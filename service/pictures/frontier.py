"""The frontier of a sweep: what each method bought, by how far it went from where training started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.pictures.training import frontier
from storage.artifacts import write_text


def save(folder: Path, points: Sequence[Mapping[str, Any]]) -> str | None:
    """The points as an SVG file in a run's folder; its path, or None where there is nothing to show."""
    shown = on_the_way(points)
    if not shown:
        return None
    path = folder / "frontier.svg"
    write_text(path, str(frontier(shown)))
    return str(path)


def on_the_way(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a frontier shows: the model that training started from, and those it led to; not the one before SFT."""
    return [drawn(p) for p in points if p["name"] != "start" and p["kl"] is not None and p["reward"] is not None]


def drawn(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point as `service.pictures.training.frontier` takes it."""
    win = point["win_rate"]
    return {
        "method": point["method"],
        "leash": point["leash"],
        "seed": point["seed"],
        "kl": point["kl"]["mean"],
        "reward": point["reward"]["mean"],
        "judge": win["mean"],
        "judge_low": win["low"],
        "judge_high": win["high"],
        "truth": point["truth"].get("gold_good"),
    }
