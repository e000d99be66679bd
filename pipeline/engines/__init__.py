"""Engines by name. `build` imports the module that the settings name and no other."""

from __future__ import annotations

from pipeline import plugins
from pipeline.engines.engine import Engine, EngineSettings


def build(settings: EngineSettings) -> Engine:
    """The engine that `settings.kind` names. Raises UserError for a name with no module, saying what there is."""
    engine: Engine = plugins.load(__name__, "build", settings.kind, "engine").build(settings)
    return engine
