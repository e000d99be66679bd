"""What a step of a flow is: a Prefect task that keeps nothing itself, because resuming comes from the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import MissingContextError

from flows.work import Work
from pipeline.engines.engine import EngineError

P = ParamSpec("P")
R = TypeVar("R")


def _worth_another_try(task: Any, run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except EngineError:
        return True
    except BaseException:
        return False
    return False


def step(function: Callable[P, R]) -> Callable[P, R]:
    """A Prefect task. A transport failure of an engine is tried again; everything else fails the run."""
    wrapped: Callable[P, R] = task(
        name=function.__name__.replace("_", " "), cache_policy=NO_CACHE, persist_result=False,
        retries=3, retry_delay_seconds=[5, 30, 120], retry_condition_fn=_worth_another_try,
    )(function)  # fmt: skip
    return wrapped


def log(work: Work, text: str) -> None:
    """Said to whoever watches the run, and kept in Prefect's log."""
    work.report.say(f"  {text}")
    note(text)


def note(text: str) -> None:
    """Kept in Prefect's log alone."""
    try:
        get_run_logger().info(text)
    except MissingContextError:  # called as a plain function
        logging.getLogger("precept").info(text)
