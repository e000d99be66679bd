"""Judges by name. `build` imports the module that the settings name and no other."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from constitution.errors import UserError
from pipeline import plugins
from pipeline.asking import Role
from pipeline.engines.engine import EngineError
from pipeline.judges.applies import Settled
from pipeline.judges.by_principle import ByPrinciple
from pipeline.judges.judge import Another, Judge


def load(method: str) -> ModuleType:
    """The module of a judge. Raises UserError for a name with no module, saying what there is."""
    return plugins.load(__name__, "build", method, "judge")


def build(
    method: str,
    role: Role,
    options: Mapping[str, Any] | None = None,
    another: Another | None = None,
    *,
    evaluator: bool = False,
    settled: Settled | None = None,
) -> ByPrinciple:
    """The judge that `method` names, for all principles that name no other: see `by_principle`. `another` gives it
    further roles; without one there are none. `evaluator`: it measures, and made none of the labels. `settled`: what is
    known of which principles apply to which prompts; it grows.

    Raises UserError where there is no such judge, or where it cannot work in this role.
    """
    roles, further = [role], another or _no_other

    def noted(settings: Mapping[str, Any]) -> Role:
        roles.append(further(settings))
        return roles[-1]

    return ByPrinciple(one(method, role, options or {}, noted), roles, one, noted, evaluator, settled)


def one(method: str, role: Role, options: Mapping[str, Any], another: Another) -> Judge:
    """The judge of one method, whatever principles say. Raises as `build` does."""
    module = load(method)
    with plugins.mended(module, "judge", EngineError):
        judge: Judge = module.build(role, options, another)
    return judge


def _no_other(settings: Mapping[str, Any]) -> Role:
    raise UserError("this judge asks for a second engine, and here it can have one only; take another judge.method")
