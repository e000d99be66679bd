"""A constitution file from disk to Constitution: bytes, text, layout, shape; all mistakes in one ConstitutionError.

The order is that of cost: size and encoding are looked at before YAML is, YAML before meaning. Hostile files (alias
bombs, deep nesting, a binary, a device) are refused in under a second.
"""

from __future__ import annotations

import codecs
from dataclasses import replace
from pathlib import Path

from constitution.layout import read_layout
from constitution.principles import Constitution
from constitution.problems import LINE_BREAK, ConstitutionError, Problem
from constitution.shape import UNPRINTABLE, build

MAX_BYTES = 256 * 1024  # hundreds of principles; YAML of this size is read in a third of a second
MAX_HIDDEN = 100  # control characters told one by one; with more it is no text
_START = "`precept constitution new {}` writes one to begin with."
_UTF8 = "Save the file as UTF-8 in your editor."
_BOMS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))


def load(path: str | Path) -> Constitution:
    """Read and check a file. Raises ConstitutionError naming every mistake in it, with line and column."""
    return parse_bytes(_read(Path(path)), str(path))


def parse_bytes(data: bytes, filename: str) -> Constitution:
    """Decode and check. Raises ConstitutionError."""
    return parse(_decode(data, filename), filename)


def parse(text: str, filename: str = "principles.yaml") -> Constitution:
    """Check a text; `filename` is only named. Raises ConstitutionError with every mistake that can be found at once."""
    if len(text) > MAX_BYTES:
        raise _whole_file(filename, *_TOO_LARGE)
    hidden = _hidden(text)
    if len(hidden) > MAX_HIDDEN:
        message = f"more than {MAX_HIDDEN} control characters, this is the first: a binary file?"
        first = replace(hidden[0], message=message, hint="Check that this is the right file.")
        raise ConstitutionError(filename, [first], text)
    # Replaced one for one, so that reading goes on and every place stays true.
    layout = read_layout(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))
    problems = hidden + layout.problems
    if layout.complete and layout.value is None:
        problems.append(Problem(0, 0, "", "there is no constitution in this file", _START.format("PATH")))
    elif layout.complete:
        constitution, found = build(layout, text)
        problems += found
        if constitution is not None and not problems:
            return constitution
    raise ConstitutionError(filename, problems, text)


_TOO_LARGE = (
    f"larger than {MAX_BYTES // 1024} KiB, too large for a constitution",
    "Check that this is the right file; keep a constitution to a few hundred principles.",
)


def _read(path: Path) -> bytes:
    name = str(path)
    try:
        if path.is_dir():
            raise _whole_file(
                name, "is a folder, not a file", f"Name the file in it, such as {path / 'principles.yaml'}."
            )
        if path.exists() and not path.is_file():
            raise _whole_file(name, "is not a regular file", "Name a file on disk.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _whole_file(name, "there is no such file", _START.format(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise _whole_file(name, f"cannot be read: {reason}", "Check the path and its permissions.") from None
    if len(data) > MAX_BYTES:
        raise _whole_file(name, *_TOO_LARGE)
    return data


def _decode(data: bytes, filename: str) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            raise _at(data, 0, filename, f"this file is {encoding}, not UTF-8", _UTF8)
    nul = data.find(b"\0")
    if nul >= 0:
        if data[:200].count(b"\0") * 3 > len(data[:200]):
            raise _at(data, nul, filename, "this file looks like UTF-16 without a mark, not UTF-8", _UTF8)
        raise _at(
            data, nul, filename, "a NUL byte: this is a binary file, not text", "Check that this is the right file."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        likely = bytes([byte]).decode("cp1252", errors="ignore")
        meant = f" (in Windows-1252 it is `{likely}`)" if likely.isprintable() and likely else ""
        raise _at(data, error.start, filename, f"byte 0x{byte:02X} is not UTF-8{meant}", _UTF8) from None


def _at(data: bytes, offset: int, filename: str, message: str, hint: str) -> ConstitutionError:
    before = LINE_BREAK.split(data[:offset].decode("utf-8", errors="replace"))
    return ConstitutionError(filename, [Problem(len(before), len(before[-1]) + 1, "", message, hint)])


def _whole_file(filename: str, message: str, hint: str) -> ConstitutionError:
    return ConstitutionError(filename, [Problem(0, 0, "", message, hint)])


def _hidden(text: str) -> list[Problem]:
    """Characters that cannot be read on a screen, up to one more than will be told."""
    problems: list[Problem] = []
    for number, line in enumerate(LINE_BREAK.split(text), 1):
        for found in UNPRINTABLE.finditer(line):
            message = f"the hidden character U+{ord(found[0]):04X}"
            hint = "Remove it: what is read must be what is seen."
            problems.append(Problem(number, found.start() + 1, "", message, hint))
            if len(problems) > MAX_HIDDEN:
                return problems
    return problems
