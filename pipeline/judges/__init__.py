"""Judges by name. `build` imports the module that the settings name and no other."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pipeline import plugins
from pipeline.asking import Role
from pipeline.judges.judge import Judge


def load(method: str) -> ModuleType:
    """The module of a judge. Raises UserError for a name with no module, saying what there is."""
    return plugins.load(__name__, "build", method, "judge")


def build(method: str, role: Role, options: Mapping[str, Any] | None = None) -> Judge:
    """The judge that `method` names. Raises UserError where there is none, or where it cannot work in this role."""
    judge: Judge = load(method).build(role, options or {})
    return judge
