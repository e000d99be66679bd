"""Raw rows of a file: JSON Lines, a JSON array, CSV, TSV or Parquet, each of them also packed by gzip.

A file is read as a stream: what is kept in memory is one row (at most `LONGEST` characters), or one batch of Parquet.
A row that cannot be read is a row with a problem, and the next one is read; a file that is damaged, or that is not one
of these kinds, is a UserError. Which columns a row has to have is `shapes.py`'s.
"""

from __future__ import annotations

import ast
import codecs
import csv
import gzip
import io
import json
import re
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from constitution.errors import UserError

LONGEST = 64_000_000  # characters of one row
PACKED_SIZE, PACKED_RATIO = 64_000_000, 100  # bytes a .gz may unpack to at any rate, and times its size beyond that
MOST_BLANK = 1_000_000  # empty lines one after the other
CHUNK = 1 << 20  # characters that are looked at together in a JSON array
BATCH = 64  # rows of Parquet that are turned into Python together
BATCH_BYTES = 1_000_000_000
KINDS = "a .jsonl, .json, .csv, .tsv or .parquet file, or one of these packed as .gz"

_SUFFIXES: dict[str, Literal["json", "csv", "tsv", "parquet"]] = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_FOREIGN = (  # how a file begins that is none of these, whatever its name says
    (b"PK\x03\x04", "a zip archive or a workbook: unpack it, or save it as CSV"),
    (b"BZh", "packed by bzip2: unpack it"),
    (b"\xfd7zXZ", "packed by xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it"),
    (b"ARROW1", "an Arrow file: write it as Parquet"),
    (b"SQLite format 3", "a database"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the data: `git lfs pull` brings the data"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_UTF32 = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_DEEP = "nested too deep to be read"
_WRAPPERS = ("data", "rows", "examples")  # the key of a JSON object that holds nothing but the rows


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the file has it. `unit` and `number`: the line it begins on, or where a file has no lines of its own the
    number of the row, from 1. `problem`: why there is no `value`."""

    unit: Literal["line", "row"]
    number: int
    value: Any = None
    problem: str = ""

    def where(self, path: Path) -> str:
        return f"{path}:{self.number}" if self.unit == "line" else f"{path}, row {self.number}"


def rows(path: Path, *, unnamed: bool = False) -> Iterator[Row]:
    """The rows of a file, in its order. A key whose value is null is absent. `unnamed`: a file whose name says nothing
    of its kind is JSON Lines.

    Raises UserError for what is no such file, is of another kind, is damaged, or has a row of over `LONGEST`.
    """
    kind, packed = _kind(path, unnamed)
    reached = ""
    try:
        if kind == "parquet":
            found = _parquet(path, packed)
        elif kind == "json":
            found = _json(path, packed)
        else:
            found = _csv(path, packed, "\t" if kind == "tsv" else "")
        for row in found:
            reached = f" after {row.unit} {row.number}"
            yield row
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: the file is damaged or was cut off{reached} ({error}); fetch it again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the file is not {error.encoding.upper()}, as its first bytes say{reached}") from None
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read: {error.strerror or error}") from None


def _kind(path: Path, unnamed: bool) -> tuple[Literal["json", "csv", "tsv", "parquet"], bool]:
    """What a file is, by its name and its first bytes, and whether it is packed by gzip."""
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise UserError(f"{path} is a folder: name a file in it")
        if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for, a device has no end
            raise UserError(f"{path} is not a file on disk (a pipe or a device): write its content to a file first")
        with path.open("rb") as file:
            first = file.read(64)
        if not first:
            raise UserError(f"{path} is empty: it has no row; docs/data.md has the shapes of rows")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{str(path)!r}: the file cannot be read: {said}") from None
    packed = first.startswith(b"\x1f\x8b")
    name = path.name.lower()
    if name.endswith((".gz", ".gzip")):
        if not packed:
            raise UserError(f"{path} is not packed by gzip, as its name says")
        name = name.rsplit(".", 1)[0]
    if packed and _packed_twice(path):
        raise UserError(f"{path} is packed by gzip twice; unpack it once: gunzip -c {path.name} > once.gz")
    for sign, what in _FOREIGN:
        if first.startswith(sign):
            raise UserError(f"{path} is {what}; precept reads {KINDS}")
    kind = "parquet" if first.startswith(b"PAR1") else _SUFFIXES.get(Path(name).suffix)
    if kind is None and not unnamed:
        raise UserError(f"{path}: give {KINDS}")
    return kind or "json", packed


def _packed_twice(path: Path) -> bool:
    try:
        with gzip.open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except (EOFError, OSError, zlib.error):  # a damaged file, which its reader tells of
        return False


def _without_null(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: [_without_null(one) for one in held] if isinstance(held, list) else _without_null(held)
        for key, held in value.items()
        if held is not None
    }


# --- bytes and text ----------------------------------------------------------------------------------------------


class _Unpacked(io.RawIOBase):
    """What a .gz holds, as far as that is in proportion to its size: a few kilobytes can unpack to terabytes."""

    def __init__(self, path: Path) -> None:
        self._path, self._size, self._read = path, path.stat().st_size, 0
        self._file = gzip.open(path, "rb")  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._read += len(data)
        if self._read > PACKED_SIZE and self._read > PACKED_RATIO * self._size:
            raise UserError(
                f"{self._path}: {self._size} bytes unpack to over {self._read // 1_000_000} MB, which no real text "
                "does; unpack it yourself if you trust it"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _bytes(path: Path, packed: bool) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(path) if packed else io.FileIO(path), CHUNK)


def _text(path: Path, packed: bool, newline: str | None) -> io.TextIOWrapper:
    """UTF-8, or what a byte order mark says. Bytes that are no UTF-8 come as lone surrogates: see `_not_utf8`."""
    data = _bytes(path, packed)
    start = data.peek(4)[:4]
    for mark, encoding in (*_UTF32.items(), *_UTF16.items()):  # a mark of UTF-32 begins as one of UTF-16 does
        if start.startswith(mark):
            return io.TextIOWrapper(data, encoding, newline=newline)
    if len(start) > 1 and (start[0] == 0) != (start[1] == 0):
        raise UserError(f"{path} looks like UTF-16 without a byte order mark; save it as UTF-8")
    return io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape", newline=newline)


def _lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    number = blank = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        blank = 0 if len(line) > 2 or line.strip() else blank + 1
        if blank > MOST_BLANK:
            raise UserError(f"{path}:{number}: over {MOST_BLANK:,} empty lines; the file is damaged")
        if len(line) > LONGEST:
            raise UserError(f"{path}:{number}: the line has over {LONGEST // 1_000_000} million characters")
        yield line


def _not_utf8(text: str) -> str:
    """What is wrong with a text that was read with bytes in it that are no UTF-8; nothing for a sound one."""
    if text.isascii():
        return ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        return f"not UTF-8 (the byte {byte:#04x} at column {error.start + 1}); save the file as UTF-8"
    return ""


# --- JSON --------------------------------------------------------------------------------------------------------


class _Repeated(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Repeated(f"the key {twice!r} is there twice")
    return found


_STRICT = json.JSONDecoder(object_pairs_hook=_once)
_LENIENT = json.JSONDecoder(parse_int=str)  # finds the end of a row that is JSON and that is not taken
_SPACE = re.compile(r"[ \t\r\n]*")


def parse(text: str) -> Any:
    """The value of one JSON text, keys with null left out. Raises ValueError that says what is wrong, for nesting that
    is too deep as well."""
    try:
        value = _STRICT.decode(text)
        return _without_null(value) if "null" in text else value
    except (ValueError, RecursionError) as error:
        raise ValueError(_said(error)) from None


def _said(error: Exception) -> str:
    if isinstance(error, _Repeated):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno})"
    if isinstance(error, RecursionError):
        return _DEEP
    return "not JSON that is taken (a number of thousands of digits)"


def _json(path: Path, packed: bool) -> Iterator[Row]:
    layout = _layout(path, packed)
    found = _json_lines(path, packed) if layout == "lines" else _json_values(path, packed, layout == "array")
    if layout == "array" or not re.search(r"\.json(\.gz(ip)?)?$", path.name.lower()):
        yield from found
        return
    first = next(found, None)
    second = next(found, None)
    if first is not None and second is None and (held := _wrapped(first.value)) is not None:
        yield from (Row("row", number, value) for number, value in enumerate(held, start=1))
        return
    yield from (row for row in (first, second) if row is not None)
    yield from found


def _wrapped(value: Any) -> list[Any] | None:
    """The rows of a file that is one object with nothing but their list: {"data": [...]}."""
    if not isinstance(value, dict):
        return None
    lists = [key for key, held in value.items() if isinstance(held, list) and held and isinstance(held[0], dict)]
    return value[lists[0]] if len(lists) == 1 and lists[0] in _WRAPPERS else None


def _layout(path: Path, packed: bool) -> Literal["lines", "array", "values"]:
    """Whether a file of JSON has a row a line, is one array, or (.json) has objects that go over several lines."""
    with _text(path, packed, None) as file:
        first = ""
        for blank in range(MOST_BLANK + 1):
            first = file.readline(CHUNK)
            if first.strip():
                break
            if not first or blank == MOST_BLANK:
                return "lines"
        if first.lstrip()[:1] not in ("[", "{"):
            return "lines"
        try:
            parse(first.strip())
            whole = True
        except ValueError as error:
            whole = "not JSON" not in str(error)  # its end is on this line, whatever else is wrong with it
        if first.lstrip().startswith("["):
            more = True
            while more and whole:
                line = file.readline(CHUNK)
                if line.strip():
                    return "lines"
                more = bool(line)
            return "array"
    is_json = re.search(r"\.json(\.gz(ip)?)?$", path.name.lower())
    return "lines" if whole or not is_json else "values"


def _json_lines(path: Path, packed: bool) -> Iterator[Row]:
    with _text(
        path, packed, None
    ) as file:  # JSON has no raw line end inside a text, so each of \n, \r\n, \r ends a row
        for number, line in enumerate(_lines(file, path), start=1):
            if not line.strip():
                continue
            if problem := _not_utf8(line):
                yield Row("line", number, problem=problem)
                continue
            try:
                yield Row("line", number, parse(line.strip()))
            except ValueError as error:
                yield Row("line", number, problem=str(error))


def _json_values(path: Path, packed: bool, array: bool) -> Iterator[Row]:
    """The elements of a JSON array, or JSON values one after the other, without the whole of the file in memory."""
    with _text(path, packed, None) as file:
        buffer, place, line, number = "", 0, 1, 0

        def more(size: int = CHUNK) -> bool:
            nonlocal buffer, place, line
            chunk = file.read(size)
            line += buffer.count("\n", 0, place)
            buffer, place = buffer[place:] + chunk, 0
            if len(buffer) > LONGEST + CHUNK:
                raise UserError(f"{path}, row {number + 1}: over {LONGEST // 1_000_000} million characters")
            return bool(chunk)

        def next_sign() -> str:
            nonlocal place
            while True:
                place = _SPACE.match(buffer, place).end()  # type: ignore[union-attr]
                if place < len(buffer) or not more():
                    return buffer[place : place + 1]

        def broken(what: str, at: int) -> UserError:
            here = line + buffer.count("\n", 0, at)
            return UserError(f"{path}, row {number + 1} (line {here}): {what}; what follows it cannot be read")

        if array:
            next_sign()
            place += 1
            if next_sign() == "]":
                return
        while sign := next_sign():
            size = CHUNK
            while True:
                problem = ""
                try:
                    value, end = _STRICT.raw_decode(buffer, place)
                    if buffer.find("null", place, end) >= 0:
                        value = _without_null(value)
                    break
                except json.JSONDecodeError as error:
                    cut = error.pos >= len(buffer) - 16 or error.msg.startswith("Unterminated string")
                    if cut and more(size):
                        size *= 2
                        continue
                    raise broken(f"not JSON ({error.msg})", error.pos) from None
                except RecursionError as error:
                    raise broken(_said(error), place) from None
                except ValueError as error:
                    problem = _said(error)
                    try:
                        value, end = None, _LENIENT.raw_decode(buffer, place)[1]
                        break
                    except ValueError:
                        if not more(size):
                            raise broken(problem, place) from None
                        size *= 2
            if not problem:
                problem = _not_utf8(buffer[place:end])
            number += 1
            place = end
            yield Row("row", number, None if problem else value, problem)
            if not array:
                continue
            sign = next_sign()
            if sign == "]":
                place += 1
                if next_sign():
                    raise broken("there is something after the end of the array", place)
                return
            if sign != ",":
                raise broken("not JSON (the array is cut off, or a comma is missing)", place)
            place += 1
        if array:
            raise broken("not JSON (the array is cut off)", place)


# --- CSV ---------------------------------------------------------------------------------------------------------

_GUARDED = re.compile(r"'*[=+\-@\t\r]")


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe before it. `cell` takes it away again."""
    return "'" + text if _GUARDED.match(text) else text


def _csv(path: Path, packed: bool, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST)
    with _text(path, packed, "") as file:
        counted = _Counted(_lines(file, path))
        header: list[str] | None = None
        reader: Any = None
        for first in counted:
            if not first.strip():
                continue
            if said := re.fullmatch(r"sep=(.)\s*", first):  # as Excel has it before the header
                delimiter = said[1]
                continue
            if problem := _not_utf8(first):
                raise UserError(f"{path}:{counted.number}: {problem}")
            if not delimiter:
                delimiter = max((",", ";", "\t"), key=first.count)
            reader = csv.reader(_before(first, counted), delimiter=delimiter, strict=True)
            break
        if reader is None:
            return
        while True:
            begins = counted.number + (0 if header is None else 1)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise UserError(f"{path}:{begins}: the header is not CSV ({error})") from None
                yield Row("line", begins, problem=f"not CSV ({error})")
                continue
            if header is None:
                header = [name.strip() for name in cells]
                if twice := [name for name in header if name and header.count(name) > 1]:
                    raise UserError(f"{path}:{begins}: the column {twice[0]!r} is there twice")
                continue
            if not any(cells):
                continue
            yield _csv_row(begins, header, cells)


def _csv_row(number: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Row("line", number, problem=f"{len(cells)} cells, where the header has {len(header)}")
    if problem := next(filter(None, map(_not_utf8, cells)), ""):
        return Row("line", number, problem=problem)
    try:
        value = {name: cell(text) for name, text in zip(header, cells, strict=True) if text and name}
        return Row("line", number, value)
    except ValueError as error:
        return Row("line", number, problem=str(error))


class _Counted:
    """Lines, and how many of them have been given."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.number = lines, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line


def _before(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def cell(text: str) -> Any:
    """A cell's text; or the messages, or list, that it is the JSON of (or what Python prints of such a list)."""
    if text[:1] == "'" and _GUARDED.match(text):
        return text[1:]
    if not re.match(r"\s*[\[{]\s*(['\"\[{]|$)", text):
        return text
    try:
        return parse(text)
    except ValueError:
        pass
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if isinstance(found, list | dict):
        return [_without_null(one) for one in found] if isinstance(found, list) else _without_null(found)
    if re.match(r"\s*\[\s*\{\s*['\"](role|content|from|value)['\"]\s*:", text):
        raise ValueError("a cell looks like a list of messages and is not JSON")
    return text


# --- Parquet -----------------------------------------------------------------------------------------------------


def _parquet(path: Path, packed: bool) -> Iterator[Row]:
    if not packed:
        yield from _parquet_rows(path, path)
        return
    with _bytes(path, True) as data, tempfile.TemporaryFile() as file:
        while chunk := data.read(CHUNK):
            file.write(chunk)
        file.seek(0)
        yield from _parquet_rows(path, file)


def _parquet_rows(path: Path, source: Path | IO[bytes]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            columns = file.schema_arrow.names
            if twice := [name for name in columns if columns.count(name) > 1]:
                raise UserError(f"{path}: the column {twice[0]!r} is there twice")
            for batch in file.iter_batches(batch_size=BATCH):
                if batch.nbytes > BATCH_BYTES:
                    raise UserError(f"{path}: {BATCH} rows from row {number + 1} on are over 1 GB")
                try:
                    values = [Row("row", number + at, value) for at, value in enumerate(batch.to_pylist(), start=1)]
                except (ValueError, OverflowError, pa.ArrowException):
                    values = [_row(batch, at, number + at + 1) for at in range(batch.num_rows)]
                number += batch.num_rows
                for row in values:
                    yield row if row.problem else Row("row", row.number, _without_null(row.value))
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        after = f" after row {number}" if number else ""
        raise UserError(f"{path}: not a Parquet file that can be read{after}: {said}; fetch it again") from None


def _row(batch: Any, at: int, number: int) -> Row:
    """One row of a batch that cannot be turned into Python whole: without the columns of it that cannot, dates beyond
    the calendar for example, but for texts that are no texts."""
    import pyarrow as pa

    found = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = column[at].as_py()
        except UnicodeDecodeError as error:
            return Row("row", number, problem=f"{name!r} is not UTF-8 ({error.reason})")
        except (ValueError, OverflowError, pa.ArrowException):
            continue
    return Row("row", number, found)
