"""Engines by name. `build` imports the module that the settings name and no other."""

from __future__ import annotations

from types import ModuleType

from pipeline import plugins
from pipeline.engines.checked import Checked
from pipeline.engines.engine import Engine, EngineError, EngineSettings

OURS = tuple(f"{__name__}.{kind}" for kind in ("openai", "scripted", "transformers"))  # their tests hold them to it


def load(kind: str) -> ModuleType:
    """The module of an engine. Raises UserError for a name with no module, saying what there is."""
    return plugins.load(__name__, "build", kind, "engine")


def build(settings: EngineSettings) -> Engine:
    """The engine that `settings.kind` names. Raises UserError for a name with no module, saying what there is."""
    module = load(settings.kind)
    with plugins.mended(module, "engine", EngineError):
        engine: Engine = module.build(settings)
    return engine if module.__name__ in OURS else Checked(engine, f"the engine in {module.__name__}")


def named(settings: EngineSettings) -> Engine:
    """The engine with the fingerprint that `build` would give it, and no model: an engine that would have to load one
    answers nothing. Raises the UserErrors of `build`."""
    module = load(settings.kind)
    with plugins.mended(module, "engine", EngineError):
        engine: Engine = module.named(settings) if hasattr(module, "named") else module.build(settings)
    return engine


def check(settings: EngineSettings) -> None:
    """Raise the UserError that `build` would, as far as it can be known without loading a model."""
    module = load(settings.kind)
    if hasattr(module, "check"):
        with plugins.mended(module, "engine", EngineError):
            module.check(settings)


def check_server(settings: EngineSettings) -> None:
    """Raise the UserError of a server that answers now, and would refuse: it does not have the model, or the key is
    wrong. One that does not answer passes, it may be on its way up; an engine of this process does, too."""
    module = load(settings.kind)
    if hasattr(module, "check_server"):
        module.check_server(settings)
