"""Every setting: its value and where it came from, and what it is: type, default, what it does. No secret is shown.

What a setting does is said once, by its field in `service/settings.py`; the command line and `docs/settings.md` read it
there.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from constitution.errors import UserError
from service.no_secrets import NAMED
from service.settings import Settings, redact


@dataclass(frozen=True)
class Known:
    """A setting as the code declares it. `open`: a table whose names are free, as the arguments of a trainer."""

    name: str
    kind: str  # its type, in words
    default: Any
    does: str
    open: bool


@dataclass(frozen=True)
class Setting:
    """A setting in force. `known`: what the code declares of it, or of the free table that it stands in."""

    name: str
    value: Any
    origin: str  # default, environment, flag, or the file
    known: Known

    @property
    def changed(self) -> bool:
        """Whether somebody set it to something else. What a role has from the policy is that role's default."""
        return self.origin != "default" and bool(self.value != self.default)

    @property
    def default(self) -> Any:
        return self.known.default if self.name == self.known.name else None

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "origin": self.origin}

    def explained(self) -> dict[str, Any]:
        return {**self.as_dict(), "default": self.default, "type": self.known.kind, "does": self.known.does}


@dataclass(frozen=True)
class Section:
    """Settings that stand together, in the order of the file; `name` is empty for those at the top."""

    name: str
    does: str
    settings: tuple[Known, ...]


def sections() -> list[Section]:
    """All settings that there are, section by section."""
    top = tuple(_known(name, field) for name, field in Settings.model_fields.items() if _section(field) is None)
    found = [Section("", "Beside the sections, at the top of the file.", top)]
    for name, field in Settings.model_fields.items():
        inner = _section(field)
        if inner is not None:
            known = tuple(_known(f"{name}.{key}", value) for key, value in inner.model_fields.items())
            found.append(Section(name, field.description or "", known))
    return found


def known() -> dict[str, Known]:
    """All settings that there are, by dotted name."""
    return {setting.name: setting for section in sections() for setting in section.settings}


def in_force(settings: Settings, origins: Mapping[str, str]) -> list[Setting]:
    """Every setting with its value; `origins` as `service.settings.load` returns them. A table is told by its parts."""
    values = settings.model_dump(mode="json") | {"store": redact(settings.store.get_secret_value())}
    declared = known()
    return [
        Setting(name, shown(name, value), _origin(name, origins), _of(name, declared))
        for name, value in _leaves(values)
    ]


def explain(name: str, settings: Settings, origins: Mapping[str, str]) -> Setting:
    """One setting in force. Raises UserError, with names that are near, where there is none of that name."""
    found = {setting.name: setting for setting in in_force(settings, origins)}
    declared = known()
    if name in found:
        return found[name]
    if name in declared:  # a table that is told by its parts, or of a role that is not set
        value: Any = settings.model_dump(mode="json")
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        parts = dict.fromkeys(of for part, of in origins.items() if part.startswith(f"{name}."))
        return Setting(name, shown(name, value), ", ".join(parts) or _origin(name, origins), declared[name])
    near = difflib.get_close_matches(name, dict.fromkeys([*declared, *found]), n=3, cutoff=0.5)
    inside = [known for known in declared if known.startswith(f"{name}.")]
    if inside:
        raise UserError(f"{name} is a section; it has {', '.join(inside)}")
    raise UserError(
        f"there is no setting {name!r}" + (f"; near it: {', '.join(near)}" if near else "") + " (`precept settings`)"
    )


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, also where it may be left out."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _known(name: str, field: FieldInfo) -> Known:
    default = None if field.is_required() else _plain(field.get_default(call_default_factory=True))
    return Known(name, _words(field.annotation), default, field.description or "", _free(field.annotation))


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return redact(value.get_secret_value())
    return str(value) if isinstance(value, Path) else value


_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "text"}


def _words(kind: Any) -> str:
    """A type as people say it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in inner)
    if origin in (types.UnionType, typing.Union):
        words = " or ".join(_words(part) for part in inner if part is not type(None))
        return f"{words}, or none" if type(None) in inner else words
    if origin is dict:
        return "table" if inner[1] is Any else f"table of {_many(inner[1])}"
    if origin is list:
        return f"list of {_many(inner[0])}"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _many(kind: Any) -> str:
    word, of, rest = _words(kind).partition(" of ")
    return f"{word}s{of}{rest}"


def _free(kind: Any) -> bool:
    return get_origin(kind) is dict or any(get_origin(part) is dict for part in get_args(kind))


def _of(name: str, declared: Mapping[str, Known]) -> Known:
    """What is declared of a setting, or of the free table around it."""
    at = name
    while at and at not in declared:
        at = at.rpartition(".")[0]
    return declared.get(at) or Known(name, "section", None, _section_words(name), False)


def _section_words(name: str) -> str:
    """What a section does that is not set (critic, trained): its own name stands for it."""
    field = Settings.model_fields.get(name)
    return (field.description if field else None) or ""


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _origin(name: str, origins: Mapping[str, str]) -> str:
    """A table given whole (`lora = {}`) is the origin of all that is in it."""
    while name:
        if name in origins:
            return origins[name]
        name = name.rpartition(".")[0]
    return "default"


def shown(name: str, value: Any) -> Any:
    """A setting's value as it may be shown. Engine options are free text, and somebody will put a key there."""
    if name == "store" and isinstance(value, str):
        return redact(value)
    *outer, last = name.lower().split(".")
    if "headers" in outer:  # whatever a header is called: servers read keys from names of their own
        return "***" if value else value
    if last.endswith(("_env", "tokens")):  # the name of a variable, and max_tokens
        return value
    hidden = NAMED.search(last) or any(word in last for word in ("key", "token", "secret", "password"))
    return "***" if value and hidden else value
