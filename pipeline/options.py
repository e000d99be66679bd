"""What a person writes about a plug-in, checked: one message for all that is wrong with it, in words of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from constitution.errors import UserError, meant


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


@dataclass(frozen=True)
class Wrong:
    """What is wrong with one option; `path` of keys to it, empty where it is all of them together."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (".".join(map(str, self.path)), self.message) if part)


class WrongOptions(UserError):
    """All that is wrong with the options of `who`, each by its key, so that whoever has the file can point at it."""

    def __init__(self, who: str, wrong: Sequence[Wrong], known: Iterable[str]) -> None:
        self.who, self.wrong, self.known = who, tuple(wrong), tuple(known)
        super().__init__(f"{who}: {'; '.join(map(str, wrong))}; its options are {', '.join(self.known)}")

    def within(self, *path: str) -> WrongOptions:
        """The same of options that lie under these keys of somebody else's."""
        return WrongOptions(self.who, [Wrong((*path, *each.path), each.message) for each in self.wrong], self.known)


@contextmanager
def within(*path: str) -> Iterator[None]:
    """What is wrong in here is wrong under these keys."""
    try:
        yield
    except WrongOptions as error:
        raise error.within(*path) from None


T = TypeVar("T", bound=Options)


def read(options: type[T], who: str, given: Mapping[str, Any]) -> T:
    """The options of a plug-in, `who` in messages. Raises WrongOptions for an unknown one, a missing one, or a wrong
    value."""
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        raise wrong_options(error, who, options) from None


def wrong_options(error: ValidationError, who: str, kind: type[BaseModel]) -> WrongOptions:
    """What pydantic found, of a section of that kind."""
    known = list(kind.model_fields)
    return WrongOptions(who, [Wrong(e["loc"], words(e, known)) for e in error.errors()], known)


_KINDS = {  # by the beginning of pydantic's name for it
    "int": "it is not a whole number",
    "float": "it is not a number",
    "bool": "it is neither true nor false",
    "string_type": "it is not a text",
    "dict": "it is not a mapping of keys and values",
    "model": "it is not a mapping of keys and values",
    "tuple_type": "it is not a list",
    "list_type": "it is not a list",
    "string_too_short": "it is empty",
}


def words(error: ErrorDetails, known: Iterable[str] = ()) -> str:
    """One finding of pydantic's in plain words. `known`: the options that there are, where it is of the first level. A
    number that was written is repeated: anything else may hold what is not to be shown."""
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return "there is no such option" + (meant(str(error["loc"][-1]), known) if len(error["loc"]) == 1 else "")
    if kind == "missing":
        return "it has to be given, and is not"
    for name, said in _KINDS.items():
        if kind == name or (kind.startswith(f"{name}_") and not kind.startswith("string")):
            return said
    if kind == "too_short":
        return f"it has to have {error['ctx']['min_length']} entries or more"
    text = error["msg"].removeprefix("Value error, ").replace("Input should be", "it has to be")
    shown = f", not {value}" if isinstance(value, int | float) and "it has to be" in text else ""
    return text + shown
