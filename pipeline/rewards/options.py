"""What a person writes about a reward, checked: one message for all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pipeline import options as any_options
from pipeline.options import Options as Options

T = TypeVar("T", bound=Options)


def read(options: type[T], kind: str, given: Mapping[str, Any]) -> T:
    """The options of a kind of reward. Raises UserError for an unknown one, a missing one, or a wrong value."""
    return any_options.read(options, f"reward (kind {kind})", given)
