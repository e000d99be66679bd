"""What a running job says of itself: `progress.jsonl`, one line an optimiser step, and when to stop it.

A run stops when a number is not finite, or when it diverges: the loss averaged over the last WINDOW steps is above
`divergence_factor` times its lowest such average so far (or times FLOOR nats where that is lower, so that a loss near
zero may wobble). Reward hacking is judged elsewhere, by a judge that made none of the labels.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.trainers.trainer import Job, TrainingStopped

WINDOW = 10  # steps
FLOOR = 0.5  # nats

NAME = "progress.jsonl"


class Interruption:
    """A signal handler. Asked once while a training runs, it lets the step end and the state be saved; asked a
    second time, or outside of training, it raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.requested = False
        self.training = False

    def __call__(self, *_: object) -> None:
        if self.requested or not self.training:
            raise KeyboardInterrupt
        self.requested = True


class ProgressFile:
    """The `Progress` that the runner hands to a method: a line of `progress.jsonl` a step, and an end to a run that has
    to stop. With `silent` it judges as ever and leaves the writing to the first of several processes."""

    def __init__(
        self,
        job: Job,
        *,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        interruption: Interruption | None = None,
        silent: bool = False,
    ) -> None:
        self.path = job.resume / NAME
        self._silent = silent
        self._factor = float(job.arguments.get("divergence_factor", math.inf))
        self._on_step = on_step
        self._interruption = interruption or Interruption()
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._lowest = math.inf
        self.losses: list[float] = []

    @property
    def interrupted(self) -> bool:
        return self._interruption.requested

    def start(self, step: int) -> None:
        """Keep the lines up to `step`, with the losses they hold; a resumed run is judged on its whole curve."""
        if self.interrupted:
            raise KeyboardInterrupt
        self._interruption.training = True
        self._recent.clear()
        self._lowest = math.inf
        self.losses.clear()
        kept = [line for line in read(self.path) if line["step"] <= step]
        if not self._silent:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="ascii")
        for line in kept:
            if "loss" in line:
                self._judge(line["step"], line)

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        if not self._silent:
            self._write(step, total, metrics)
        self._judge(step, metrics)

    def _write(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        # JSON has no NaN: a number that is not finite is written as null.
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        line = {"step": step, "total": total, "time": round(time.time(), 3), **values}
        with self.path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
        if self._on_step:
            self._on_step(line)

    def _judge(self, step: int, metrics: Mapping[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            value = metrics.get(name, 0.0)
            if not math.isfinite(value):
                # The weights that gave this number came from the step before: that one is not to be trusted either.
                raise TrainingStopped(f"step {step}: {name} is {value}", good_steps=max(0, step - 2))
        if "loss" not in metrics:
            return
        self.losses.append(metrics["loss"])
        self._recent.append(metrics["loss"])
        if len(self._recent) < WINDOW:
            return
        average = sum(self._recent) / WINDOW
        self._lowest = min(self._lowest, average)
        if average > (limit := self._factor * max(self._lowest, FLOOR)):
            raise TrainingStopped(
                f"step {step}: the loss diverges (mean of {WINDOW} steps {average:.3g}, above {limit:.3g})",
                good_steps=max(0, step - WINDOW - 1),
            )


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a progress file; none where there is no file. A last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="ascii").split("\n"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
