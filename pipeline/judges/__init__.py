"""Judges by name. `build` imports the module that the settings name and no other."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from constitution.errors import UserError
from pipeline import plugins
from pipeline.asking import Role
from pipeline.engines.engine import EngineError
from pipeline.judges.judge import Another, Judge


def load(method: str) -> ModuleType:
    """The module of a judge. Raises UserError for a name with no module, saying what there is."""
    return plugins.load(__name__, "build", method, "judge")


def build(method: str, role: Role, options: Mapping[str, Any] | None = None, another: Another | None = None) -> Judge:
    """The judge that `method` names. `another` gives it further roles; without one there are none.

    Raises UserError where there is no such judge, or where it cannot work in this role.
    """
    module = load(method)
    with plugins.mended(module, "judge", EngineError):
        judge: Judge = module.build(role, options or {}, another or _no_other)
    return judge


def _no_other(settings: Mapping[str, Any]) -> Role:
    raise UserError("this judge asks for a second engine, and here it can have one only; take another judge.method")
