"""Judges by name. `build` imports the module that the settings name and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline import plugins
from pipeline.asking import Role
from pipeline.judges.judge import Judge


def build(method: str, role: Role, options: Mapping[str, Any] | None = None) -> Judge:
    """The judge that `method` names. Raises UserError for a name with no module, saying what there is."""
    judge: Judge = plugins.load(__name__, "build", method, "judge").build(role, options or {})
    return judge
