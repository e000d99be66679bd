"""Engines by name. `load("transformers")` imports `pipeline.engines.transformers` and nothing else."""

from __future__ import annotations

from importlib import import_module, util

from constitution.errors import UserError
from pipeline.engines.engine import Engine, EngineSettings


def build(settings: EngineSettings) -> Engine:
    """The engine that `settings.kind` names. Raises UserError for a name with no module, saying what there is."""
    name = f"pipeline.engines.{settings.kind}"
    if not settings.kind.isidentifier() or settings.kind in ("engine",) or util.find_spec(name) is None:
        from pathlib import Path

        known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "engine"))
        raise UserError(f"there is no engine {settings.kind!r}; use one of {', '.join(known)}")
    engine: Engine = import_module(name).build(settings)
    return engine
