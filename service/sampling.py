"""How a role samples where its settings do not say: as the model's own `generation_config.json` does.

Who made a model knows what it samples well at (0.6 and 0.95, say), and a small one at temperature 1 writes words that
do not hang together. Filled in before anything is asked, so that a run's key has the values that are used. A server
knows its model's; an engine that is no folder has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from constitution.errors import UserError
from service.settings import RoleSettings, Settings

FILE = "generation_config.json"


def followed(settings: Settings, resolve: Callable[[str], str]) -> Settings:
    """`settings`, with `temperature` and `top_p` of the roles that write texts filled in where they are not set and the
    model's folder says them. `resolve`: the folder that a role's model stands for now."""
    updates = {}
    for name in ("policy", "critic", "trained", "judge", "evaluator"):
        role: RoleSettings | None = getattr(settings, name)
        if role is None or getattr(role, "method", "") == "choice":  # it reads two letters, and writes nothing
            continue
        if found := _unset(role, resolve):
            updates[name] = role.model_copy(update=found)
    return settings.model_copy(update=updates) if updates else settings


def _unset(role: RoleSettings, resolve: Callable[[str], str]) -> dict[str, float]:
    """What a role's settings leave open and its model says."""
    lacking = {"temperature", "top_p"} - role.model_fields_set
    if not lacking or role.kind != "transformers" or not role.model:
        return {}
    try:
        said = _said(Path(resolve(role.model)))
    except UserError:  # a model that is not there is told where it is asked for
        return {}
    return {name: said[name] for name in sorted(lacking & said.keys())}


def _said(folder: Path) -> dict[str, float]:
    """`temperature` and `top_p` of a model folder, an adapter's from below it. Nothing of a model that is greedy by its
    own configuration: samples that are all alike could not be compared."""
    from pipeline.models.checkpoint import stack

    for each in stack(folder):
        try:
            given = json.loads((each / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(given, dict) or given.get("do_sample") is False:
            return {}
        values = {name: _number(given.get(name)) for name in ("temperature", "top_p")}
        found = {name: value for name, value in values.items() if value is not None and value > 0}
        return {name: value for name, value in found.items() if name != "top_p" or value <= 1}
    return {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
