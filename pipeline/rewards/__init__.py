"""Rewards by name: what an online method is told of its answers. Text in, a number out.

`build(spec)` makes one from a mapping, the same in settings, in a job file and on the command line:

    {"kind": "model", "paths": ["checkpoints/reward-a", "checkpoints/reward-b"], "combine": "minimum"}
    {"kind": "function", "name": "package.module:function"}
    {"kind": "http", "url": "http://host/score"}
    {"kind": "judge", ...}

`kind` names a module of this folder; the rest are its options, but for the shaping that any reward can have
(`pipeline.rewards.checked.Shaping`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from constitution.errors import UserError
from constitution.records import make_id
from pipeline import plugins
from pipeline.engines.engine import EngineError
from pipeline.rewards.checked import Checked, LengthLine, Shaping
from pipeline.rewards.options import read

Spec = Mapping[str, Any]


def kinds() -> list[str]:
    return plugins.names(__name__, "build")


def load(kind: str) -> ModuleType:
    """The module of a kind. Raises UserError for a name with no module, saying what there is."""
    return plugins.load(__name__, "build", kind, "kind of reward")


def check(spec: Spec) -> None:
    """Raise the UserError that `build` would, as far as it can be known without loading a model or asking anyone."""
    module, shaping, options = _parts(spec)
    with plugins.mended(module, "kind of reward", EngineError):
        module.check(options)
        _line(module, shaping, options)


def check_options(spec: Spec) -> None:
    """As `check`, of the options alone: what they name need not be there yet."""
    module, _, options = _parts(spec)
    if hasattr(module, "check_options"):
        module.check_options(options)
    else:
        module.check(options)


def fingerprint(spec: Spec) -> str:
    """32 hex digits over what determines the numbers, the same before and after `build`. No model is loaded.

    Raises the UserErrors of `check`, for what it has to look at.
    """
    module, shaping, options = _parts(spec)
    parts = shaping.model_dump(exclude_defaults=True)
    with plugins.mended(module, "kind of reward", EngineError):
        own = module.fingerprint(options)
    return make_id("reward", reward=spec["kind"], of=own, **parts).hex()


def build(spec: Spec) -> Checked:
    """The reward that `spec` describes, its numbers checked and shaped. Raises UserError where it cannot be had."""
    module, shaping, options = _parts(spec)
    with plugins.mended(module, "kind of reward", EngineError):
        module.check(options)
        line = _line(module, shaping, options)
        digest = fingerprint(spec)
        inner = module.build(options)
    name = " ".join(["reward", spec["kind"], getattr(inner, "name", "")]).strip()
    return Checked(inner, name, digest, shaping.length_penalty, line)


def _parts(spec: Spec) -> tuple[ModuleType, Shaping, dict[str, Any]]:
    """The module of a spec, what any reward can have, and the module's own options."""
    kind = spec.get("kind")
    if not isinstance(kind, str):
        raise UserError(f"a reward needs a kind; there are {', '.join(kinds())}")
    module = load(kind)
    common = {key: value for key, value in spec.items() if key in Shaping.model_fields}
    options = {key: value for key, value in spec.items() if key not in (*common, "kind")}
    return module, read(Shaping, kind, common), options


def _line(module: ModuleType, shaping: Shaping, options: Mapping[str, Any]) -> LengthLine:
    if not shaping.length_controlled:
        return LengthLine()
    if shaping.length_slope is not None:
        return LengthLine(shaping.length_slope)
    if not hasattr(module, "length_line"):
        raise UserError(
            f"length_controlled: the slope of a reward on length is measured for reward models alone, and this is a "
            f"{module.__name__.rsplit('.', 1)[1]}; give length_slope, in reward units a character"
        )
    line: LengthLine = module.length_line(options)
    return line
