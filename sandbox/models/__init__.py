"""The two shipped models, as plain Hugging Face folders with the recipe that made them."""

from __future__ import annotations

from pathlib import Path

from constitution.errors import UserError


def folder(name: str) -> Path:
    """The folder of `policy` or `evaluator`. Raises UserError for another name or an absent folder."""
    path = Path(__file__).parent / name
    if not (path / "recipe.json").is_file():
        raise UserError(
            f"the sandbox has no model {name!r} here; it has policy and evaluator, and "
            f"`precept sandbox build --role {name}` makes one again"
        )
    return path
