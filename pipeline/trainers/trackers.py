"""Experiment trackers (`report_to`): told how training goes, and never a reason for it to stop.

A tracker whose server is down, or dies in the middle, is one warning, and is told nothing more in that training.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from transformers import Trainer, TrainerCallback

log = logging.getLogger(__name__)


def forgive(trainer: Trainer) -> None:
    """Have the trackers of a trainer fail for themselves alone."""
    handler = trainer.callback_handler
    handler.callbacks = [_Forgiven(each) if _is_tracker(each) else each for each in handler.callbacks]


def _is_tracker(callback: TrainerCallback) -> bool:
    return type(callback).__module__.startswith("transformers.integrations")


class _Forgiven(TrainerCallback):  # type: ignore[misc]
    def __init__(self, tracker: TrainerCallback) -> None:
        self._tracker: TrainerCallback | None = tracker
        for name in dir(TrainerCallback):
            if name.startswith("on_"):
                setattr(self, name, partial(self._tell, name))

    def _tell(self, event: str, *arguments: Any, **named: Any) -> Any:
        if self._tracker is None:
            return None
        try:
            return getattr(self._tracker, event)(*arguments, **named)
        except Exception as error:
            what = type(self._tracker).__name__.removesuffix("Callback")
            log.warning(
                "the tracker %s failed (%s: %s): training goes on without it", what, type(error).__name__, error
            )
            self._tracker = None
            return None
