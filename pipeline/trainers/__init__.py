"""Training methods by name, and the process they run in. Importing this package imports neither torch nor TRL.

with Worker() as worker:  # starts importing TRL in the background
    manifest = worker.run(job, on_progress=print)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pipeline import plugins
from pipeline.models.checkpoint import Kind
from pipeline.trainers import arguments
from pipeline.trainers.trainer import Job, Method, Progress, TrainingStopped
from pipeline.trainers.worker import Worker, launch

__all__ = ["Job", "Kind", "Method", "Progress", "TrainingStopped", "Worker", "launch", "load", "methods", "resolve"]


def methods() -> list[str]:
    """The names a job's `method` may have."""
    return plugins.names(__name__, "train")


def load(method: str) -> Method:
    """The module of a training method. Raises UserError for a name that is none, and for one without what a method
    declares."""
    module = plugins.load(__name__, "train", method, "training method")
    plugins.holds(module, "training method", KIND=str, COLUMNS=tuple, DEFAULTS=Mapping)
    return cast(Method, module)


def resolve(method: str, given: Mapping[str, Any], where: str = "arguments") -> dict[str, Any]:
    """The arguments a job of this method runs with: what its id hashes. Nothing heavy is imported.

    Raises UserError for a method that is none, for an argument that it does not read, and for a value that is none of
    its; `where` is what the message calls the arguments.
    """
    module = load(method)
    arguments.check(method, module, given, where)
    return {**module.DEFAULTS, **given}
