"""The small world as a prompt source (entry point `precept.sources`, name `sandbox`): `prompts = "sandbox"`.

Its contract is `pipeline.sources.source`, which the sandbox does not import: it builds on the constitution alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constitution.errors import UserError
from constitution.records import Prompt
from sandbox import prompts as world
from sandbox.pairs import FILE

KNOWN = FILE  # pairs whose better answer is known: `trial.pairs = ["sandbox"]`
SIZES = ("train", "dev", "heldout")


def prompts(options: Mapping[str, Any], splits: object) -> list[Prompt]:
    """The world's prompts. `options`: about how many a split, `train`, `dev`, `heldout`. The shares in `splits` are not
    asked: what is held out here is what the shipped models have never seen."""
    for name, value in options.items():
        if name not in SIZES or isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(f"the sandbox's prompts have whole numbers {', '.join(SIZES)}, not {name} = {value!r}")
    return world.prompts(**options)
