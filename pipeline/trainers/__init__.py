"""Training methods by name, and the process they run in. Importing this package imports neither torch nor TRL.

    with Worker() as worker:  # starts importing TRL in the background
        manifest = worker.run(job, on_progress=print)
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from constitution.errors import UserError
from pipeline.trainers.trainer import Job, Kind, Method, TrainingStopped, Watch
from pipeline.trainers.worker import Worker, launch

__all__ = ["Job", "Kind", "Method", "TrainingStopped", "Watch", "Worker", "launch", "load", "methods", "resolve"]


def methods() -> list[str]:
    """The names a job's `method` may have: the modules of this folder that define `train`, found without importing."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if _defines_train(path))


def _defines_train(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in body)


def load(method: str) -> Method:
    """The module of a training method. Raises UserError for a name that is none."""
    if method not in methods():
        raise UserError(f"there is no training method {method!r}; there are {', '.join(methods())}")
    return cast(Method, importlib.import_module(f"{__name__}.{method}"))


def resolve(method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments a job of this method runs with: what its id hashes."""
    return {**load(method).DEFAULTS, **arguments}
