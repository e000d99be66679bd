"""What is said of a setting that is wrong: where it was set, with its line in the file, what is wrong with it, and what
may be meant. `service.settings` finds the mistakes and knows the settings.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from constitution.errors import nearest_name
from pipeline.options import words


def unwritable(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """What no setting may hold, whatever its type, by dotted name: it could not be stored, or names nothing."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from unwritable(value, f"{name}.{key}" if name else str(key))
            if "\0" in str(key):
                yield name or "(top)", "has a name with a NUL character"
    elif isinstance(values, list):
        for value in values:
            yield from unwritable(value, name)
    elif isinstance(values, float) and not math.isfinite(values):
        yield name, f"is {values}: write a finite number, or leave it out"
    elif isinstance(values, str) and "\0" in values:
        yield name, "holds a NUL character: take it out"
    elif isinstance(values, str) and not _encodable(values):
        yield name, "holds half a character (a lone surrogate): take it out"
    elif isinstance(values, datetime.date | datetime.time):
        yield name, "is a date or a time: no setting is one; write it in quotes, as text"
    elif isinstance(values, int) and abs(values) >= 2**63:
        yield name, "is more than a whole number of 64 bits holds"


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


_KIND = re.compile(r"str|bool|int|float|none|(?:dict|list|tuple|literal)\[.*\]")  # as pydantic names one of several
_NUMBERS = ("int_parsing", "int_type", "int_from_float", "float_parsing", "float_type", "bool_parsing", "bool_type")


def explain(
    error: ValidationError,
    kind: type[BaseModel],
    origins: Mapping[str, str] | None = None,
    path: Path | None = None,
    inherited: Sequence[str] = (),
) -> str:
    """A line for each mistake: where the setting was set, its name, what is wrong and what may be meant. `inherited`:
    sections that have from the policy what they do not set, of which it is not told a second time."""
    origins = origins or {}
    lines: dict[str, list[str]] = {}
    at_fault = {problem["loc"] for problem in error.errors()}
    for problem in error.errors():
        loc = problem["loc"]
        if loc[0] in inherited and ("policy", *loc[1:]) in at_fault and ".".join(map(str, loc)) not in origins:
            continue  # it has it from the policy, of which it is told
        name = ".".join(str(part) for part in _without_kinds(loc))
        said = words(problem)
        said = said[:1].lower() + said[1:]
        if problem["type"] == "extra_forbidden":
            said = "there is no such setting (`precept settings` lists all)" + _meant(loc, kind)
        elif (
            problem["type"] == "string_type" and type(problem["input"]) in (int, float) and name.endswith(str(loc[-1]))
        ):
            said += f': write "{str(problem["input"])[:60]}", in quotes'
        elif problem["type"] in _NUMBERS:
            said += f": {str(problem['input'])[:60]!r}"
        lines.setdefault(name, []).append(said)
    return "\n".join(f"{where(name, origins, path)}: {name}: {_nor(said)}" for name, said in lines.items())


def _without_kinds(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """What names the setting: of one that may be of several kinds, each kind that it is not is a mistake of its own,
    with the kind at the end."""
    kinds = [at for at, part in enumerate(loc) if at and isinstance(part, str) and _KIND.fullmatch(part)]
    return loc[: kinds[0]] if kinds else loc


def _nor(said: Sequence[str]) -> str:
    """Of one setting all that is wrong with it: what it is not, and not either."""
    first, *others = dict.fromkeys(said)
    return first + "".join(f", nor {more.removeprefix('it is not ').removeprefix('it has to be ')}" for more in others)


def _meant(loc: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """The setting that is spelled much as an unknown one is, of the same section or of all."""
    section, above = kind, ""
    for part in map(str, loc[:-1]):
        field = section.model_fields.get(part)
        inner = [k for k in (field.annotation, *get_args(field.annotation)) if _is_section(k)] if field else []
        if not inner:
            return ""
        section, above = inner[0], f"{above}{part}."
    last = str(loc[-1])
    if near := nearest_name(last, section.model_fields):
        return f"; did you mean {above}{near}?"
    inside = (
        f"{name}.{last}"
        for name, field in kind.model_fields.items()
        for k in (field.annotation, *get_args(field.annotation))
        if _is_section(k) and last in k.model_fields
    )
    elsewhere = next(inside, "") if not above else last if last in kind.model_fields else ""
    return f"; did you mean {elsewhere}?" if elsewhere else ""


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def where(name: str, origins: Mapping[str, str], path: Path | None) -> str:
    """Where a setting was set, or what is in it, or around it: in the file with its line."""
    inside = (of for at, of in origins.items() if at.startswith(f"{name}."))
    around, found = name, ""
    while around and not found:
        found = origins.get(around, "")
        around = around.rpartition(".")[0]
    found = found or next(inside, "settings")
    line = line_of(path.read_text(encoding="utf-8-sig"), name) if path and found == str(path) else 0
    return f"{found}:{line}" if line else found


_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def line_of(text: str, name: str) -> int:
    """The line, from 1, of a TOML text that sets a dotted name, or the nearest table around it; 0 where none does."""
    table, found, length = "", 0, -1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+([^\[\]]+)\]", line):
            table = _plain(header[1])
            at = table
        elif key := _KEY.match(line):
            at = f"{table}.{_plain(key[1])}".lstrip(".")
        else:
            continue
        around = name == at or name.startswith(f"{at}.")
        if (around or at.startswith(f"{name}.")) and (len(at) if around else 0) > length:
            found, length = number, len(at) if around else 0
    return found


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
