"""Judges by name. `build("choice", role)` imports `pipeline.judges.choice` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, util
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.asking import Role
from pipeline.judges.judge import Judge


def names() -> list[str]:
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "judge"))


def build(method: str, role: Role, options: Mapping[str, Any] | None = None) -> Judge:
    """The judge that `method` names. Raises UserError for a name with no module, saying what there is."""
    if not method.isidentifier() or method == "judge" or util.find_spec(f"pipeline.judges.{method}") is None:
        raise UserError(f"there is no judge {method!r}; use one of {', '.join(names())}")
    judge: Judge = import_module(f"pipeline.judges.{method}").build(role, options or {})
    return judge
