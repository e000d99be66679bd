"""What a step of a flow is: a Prefect task that keeps nothing itself, because resuming comes from the store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows import server
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
    """A Prefect task, or the function alone where a run does without a server. A transport failure of an engine is
    tried again; everything else fails the run."""
    wrapped = task(
        name=function.__name__.replace("_", " "), cache_policy=NO_CACHE, persist_result=False,
        retries=3, retry_delay_seconds=[5, 30, 120], retry_condition_fn=_worth_another_try,
    )(function)  # fmt: skip

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        result: R = server.through(wrapped, *arguments, **named)
        return result

    return call
