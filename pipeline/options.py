"""What a person writes about a plug-in, checked: one message for all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from constitution.errors import UserError


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


T = TypeVar("T", bound=Options)


def read(options: type[T], who: str, given: Mapping[str, Any]) -> T:
    """The options of a plug-in, `who` in messages. Raises UserError for an unknown one, a missing one, or a wrong
    value."""
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        wrong = "; ".join(
            ": ".join(part for part in (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) if part)
            for e in error.errors(include_input=False)
        )
        known = ", ".join(options.model_fields)
        raise UserError(f"{who}: {wrong}; its options are {known}") from None
