"""One run at work: asks what is not stored yet, stores what comes back, trains, and counts what it cost.

Here `pipeline` (which says what to ask) and `storage` (which knows what was answered) meet. What it can do is written
down by what it is about: `gather.py` (texts), `judging.py` (verdicts), `training.py`; what it can look up of its run is
`service.queries.run_records`. How a run begins and ends is `life.py`.
"""

from __future__ import annotations

import time
from typing import Any

from pipeline import suites
from service.wiring import Wiring
from service.work.gather import Gather
from service.work.judging import Judging
from service.work.progress import Progress
from service.work.training import Training
from storage.runs import Run


class Work(Gather, Judging, Training):
    """A run and everything it works with. Stages keep their results in the store; this object only finds them."""

    def __init__(self, wiring: Wiring, run: Run, *, who: str, report: Progress) -> None:
        super().__init__(wiring, run, who=who, report=report)
        self.started = time.monotonic()

    @property
    def finished(self) -> dict[str, Any] | None:
        """The result of a run that was finished before, with what it costs now: nothing."""
        if self.run.status != "finished":
            return None
        self._say_what_is_not_measured()
        calls = self.run.result["calls"]
        return {**self.run.result, "calls": {"generated": 0, "chosen": 0, "reused": sum(calls.values())}}

    def _say_what_is_not_measured(self) -> None:
        """A suite that was installed since is no part of a finished run: named, it makes a run that measures it."""
        measured = self.run.result.get("suites")
        if measured is None or self.settings.evaluate.suites is not None:
            return
        if missing := [name for name in suites.chosen(None) if name not in measured]:
            every = ", ".join(f'"{name}"' for name in [*measured, *missing])
            self.log(
                f"the suite {', '.join(missing)} was not there when this run finished, and is not measured in it: set "
                f"evaluate.suites = [{every}], and what is stored is used again"
            )

    def timed(self, name: str, began: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def clock(self) -> dict[str, float]:
        """Seconds: in all, until work began, loading models, asking them (for texts, for verdicts), training."""
        asking_seconds = sum(seconds for _, seconds in self.budget.rates.values())
        spent = {"startup": 0.0, "models": 0.0, "training": 0.0} | self.seconds
        total = spent["startup"] + time.monotonic() - self.started
        rates = self.budget.rates
        split = {
            name: rates[what][1] for name, what in (("generating", "generate"), ("judging", "judge")) if what in rates
        }
        return {"total": total, **spent, "asking": asking_seconds, **split}
