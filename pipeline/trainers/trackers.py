"""Experiment trackers (`report_to`): told how training goes, and never a reason for it to stop.

A tracker that cannot be had, whose server is down, or that dies in the middle, is one warning, and is told nothing more
in that training. They are transformers' own, for every method: those on its trainers, and PPO's loop. What a tracker
writes into files stays beside the checkpoint: transformers would put it among the resume state, which goes at the end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils

from pipeline.trainers.trainer import Job

log = logging.getLogger(__name__)

FOLDER = "TENSORBOARD_LOGGING_DIR"  # where it is not set: the checkpoint's name with .tensorboard behind


def attach(trainer: Trainer, job: Job) -> None:
    """Have a trainer, which was told of no tracker, tell those of the job."""
    for tracker in _trackers(job):
        trainer.add_callback(tracker)


class Tracking:
    """The trackers of a loop of our own; of several processes only the first has any."""

    def __init__(self, job: Job, model: Any, total: int, *, first: bool = True) -> None:
        self._trackers = _trackers(job) if first else []
        self._state, self._control = TrainerState(max_steps=total), TrainerControl()
        if self._trackers:
            name = {"run_name": job.arguments["run_name"]} if "run_name" in job.arguments else {}
            self._arguments = TrainingArguments(output_dir=str(job.resume), report_to="none", use_cpu=True, **name)
            self._tell("on_train_begin", model=model)

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        self._state.global_step = step
        self._tell("on_log", logs=dict(figures))

    def close(self) -> None:
        self._tell("on_train_end")

    def _tell(self, event: str, **named: Any) -> None:
        for tracker in self._trackers:
            getattr(tracker, event)(self._arguments, self._state, self._control, **named)


def _trackers(job: Job) -> list[TrainerCallback]:
    asked = job.arguments.get("report_to") or "none"
    names = [asked] if isinstance(asked, str) else list(asked)
    if "all" in names:
        names = integration_utils.get_available_reporting_integrations()
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = before or f"{job.out}.tensorboard"
    try:
        return [_Forgiven(integration_utils.INTEGRATION_TO_CALLBACK[name]) for name in names if name != "none"]
    finally:
        if before is None:
            del os.environ[FOLDER]


class _Forgiven(TrainerCallback):  # type: ignore[misc]
    def __init__(self, kind: type[TrainerCallback]) -> None:
        self._tracker: TrainerCallback | None = None
        self._name = kind.__name__.removesuffix("Callback")
        self._tracker = self._forgiving(kind)
        for name in dir(TrainerCallback):
            if name.startswith("on_"):
                setattr(self, name, partial(self._tell, name))

    def _tell(self, event: str, *arguments: Any, **named: Any) -> Any:
        if self._tracker is None:
            return None
        return self._forgiving(partial(getattr(self._tracker, event), *arguments, **named))

    def _forgiving(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception as error:
            log.warning(
                "the tracker %s failed (%s: %s): training goes on without it", self._name, type(error).__name__, error
            )
            self._tracker = None
            return None
