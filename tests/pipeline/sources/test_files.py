"""Files as they lie about: kinds and encodings that are read alike, and damage that is one message with its place."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import os
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from constitution.errors import UserError
from pipeline.sources import files
from pipeline.sources.rows import Kind, read, read_prompts
from pipeline.training_rows import read_rows

LINE = '{"prompt": "hi"}\n'
ASKED = [{"prompt": "one"}, {"prompt": "two"}]
LINES = "".join(json.dumps(row) + "\n" for row in ASKED)


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def same_name_twice() -> bytes:
    import pyarrow as pa

    made = io.BytesIO()
    pq.write_table(pa.table([["x"], ["y"]], names=["prompt", "prompt"]), made)
    return made.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


ALIKE: list[tuple[str, str | bytes]] = [
    ("x.jsonl", LINES),
    ("x.ndjson", LINES.replace("\n", "\r\n\r\n")),
    ("x.jsonl", LINES.replace("\n", "\r")),
    ("x.jsonl", codecs.BOM_UTF8 + LINES.encode()),
    ("x.jsonl", LINES.encode("utf-16")),
    ("x.jsonl", codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")),
    ("x.json", LINES),
    ("x.json", json.dumps(ASKED)),
    ("x.json", json.dumps(ASKED, indent=2)),
    ("x.json", "".join(json.dumps(row, indent=2) for row in ASKED)),
    ("x.json", json.dumps({"data": ASKED}, indent=2)),
    ("x.jsonl", json.dumps(ASKED, indent=2)),
    ("x.csv", "prompt\none\n\ntwo\n"),
    ("x.csv", codecs.BOM_UTF8 + b"n;prompt\r\n1;one\r\n2;two\r\n"),
    (
        "x.csv",
        'prompt\n"[{""role"": ""user"", ""content"": ""one""}]"\n"[{\'role\': \'user\', \'content\': \'two\'}]"\n',
    ),
    ("x.csv", "sep=|\r\nprompt|n\r\none|1\r\ntwo|2\r\n"),
    ("x.csv", "prompt\tn\none\t1\ntwo\t2\n".encode("utf-16")),
    ("x.tsv", "prompt\tn\none\t1\ntwo\t2\n"),
    ("x.parquet", parquet([{**row, "n": None} for row in ASKED])),
    (
        "x.parquet",
        parquet([{"prompt": [{"role": "user", "content": row["prompt"], "name": None}]} for row in ASKED]),
    ),
]


@pytest.mark.parametrize(("name", "data"), ALIKE, ids=map(str, range(len(ALIKE))))
@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_file_reads_alike_also_packed(tmp_path: Path, name: str, data: str | bytes, packed: bool) -> None:
    data = data.encode() if isinstance(data, str) else data
    path = write(tmp_path / (name + ".gz" if packed else name), gzip.compress(data) if packed else data)
    found = read_prompts(path, heldout=0.2, dev=0.1)
    assert [[m.content for m in prompt.messages] for prompt in found] == [["one"], ["two"]]
    assert {prompt.source for prompt in found} == {"x"}


DEEP = '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"
DIGITS = '{"prompt": "x", "n": ' + "9" * 5_000 + "}"


DAMAGED: list[tuple[str, str | bytes, str]] = [
    ("x.jsonl", LINE + DEEP, ":2: nested too deep"),
    ("x.json", f"[{LINE},{DEEP}]", "row 2 .*nested too deep"),
    ("x.jsonl", LINE + '{"prompt": "x", "e": ' + '[{"a":' * 450 + "null" + "}]" * 450 + "}", ":2: nested too deep"),
    ("x.jsonl", LINE + DIGITS, ":2: .*thousands of digits"),
    ("x.json", f"[{DIGITS}, {LINE}]", "row 1: .*thousands of digits"),
    ("x.jsonl", LINE + '{"prompt": NaN}', ":2: 'prompt' is a string or a list of messages"),
    ("x.jsonl", LINE + '{"prompt": "x", "prompt": "y"}', ":2: the key 'prompt' is there twice"),
    ("x.json", f'[{LINE}, {{"prompt": "x", "prompt": "y"}}, {LINE}]', "row 2: the key 'prompt' is there twice"),
    ("x.jsonl", LINE + "{", ":2: not JSON"),
    ("x.jsonl", LINE + '{"prompt": "a\0b"}', ":2: not JSON"),
    (
        "x.jsonl",
        LINE.encode() + '{"prompt": "\xe9"}'.encode("latin-1"),
        r":2: not UTF-8 \(the byte 0xe9 at column 13",
    ),
    ("x.csv", "prompt\nok\n\xe9\n".encode("latin-1"), ":3: not UTF-8"),
    ("x.jsonl", (LINE * 2).encode("utf-16-le"), "looks like UTF-16"),
    ("x.jsonl", codecs.BOM_UTF16_LE + b"\x00\xd8{", "is not UTF-16"),
    ("x.json", json.dumps(ASKED, indent=1)[:-12], r"row 2 \(line 6\): not JSON"),
    ("x.json", '[{"prompt": "a"},]', "row 2 .*not JSON"),
    ("x.json", '[{"prompt": "a"}] x', "something after the end"),
    ("x.csv", "prompt,n\na,b,c\n", ":2: 3 cells, where the header has 2"),
    ("x.csv", 'prompt,n\nok,1\n"never closed,2\nd,3\n', ":3: not CSV"),
    ("x.csv", "prompt,prompt\na,b\n", "the column 'prompt' is there twice"),
    (
        "x.csv",
        "prompt\n\"[{'role': 'user', 'content': 'q'}\n {'role': 'user'}]\"\n",
        ":2: a cell looks like a list",
    ),
    ("x.jsonl", "", "is empty"),
    ("x.jsonl", "\n \n", "no usable rows"),
    ("x.json", "[]", "no usable rows"),
    ("x.csv", "prompt\n", "no usable rows"),
    ("x.jsonl.gz", LINE, "not packed by gzip"),
    ("x.jsonl.gz", gzip.compress(gzip.compress(LINE.encode())), "gzip twice"),
    ("x.parquet", same_name_twice(), "the column 'prompt' is there twice"),
    ("x.jsonl.gz", gzip.compress(random.Random(1).randbytes(9_000))[:-2_000], "damaged or was cut off"),
    ("x.parquet", parquet(ASKED)[:-10], "not a Parquet file that can be read"),
    ("x.parquet", b"hello", "not a Parquet file that can be read"),
    ("x.jsonl", b"PK\x03\x04", "a zip archive"),
    ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ("x.jsonl", b"<!DOCTYPE html><html>", "a web page"),
    ("x.txt", "hi", "give a .jsonl, .json, .csv, .tsv or .parquet file"),
]


@pytest.mark.parametrize(("name", "data", "said"), DAMAGED, ids=map(str, range(len(DAMAGED))))
def test_what_is_damaged_is_one_message_with_its_place(tmp_path: Path, name: str, data: str | bytes, said: str) -> None:
    path = write(tmp_path / name, data)
    with pytest.raises(UserError, match=said) as error:
        read(path, "prompts", heldout=0.2, dev=0.1)
    assert str(path) in str(error.value) and len(str(error.value)) < 600


def test_a_damaged_file_says_how_far_it_could_be_read(tmp_path: Path) -> None:
    texts = [{"prompt": random.Random(n).randbytes(50).hex()} for n in range(20_000)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in texts).encode())
    with pytest.raises(UserError, match=r"cut off after line 1\d{4} "):
        read(write(tmp_path / "x.jsonl.gz", whole[: len(whole) * 3 // 4]), "prompts", heldout=0.2, dev=0.1)
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist(texts),
        sink,
        row_group_size=1_000,
        write_page_checksum=True,
        use_dictionary=False,
        compression="none",
    )
    damaged = bytearray(sink.getvalue().to_pybytes())
    middle = damaged.index(texts[9_500]["prompt"].encode())
    damaged[middle] ^= 1
    with pytest.raises(UserError, match=r"after row (8\d{3}|9000):"):
        read(write(tmp_path / "x.parquet", bytes(damaged)), "prompts", heldout=0.2, dev=0.1)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_is_told_and_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match=r"is a folder|a pipe or a device"):
        read(tmp_path / "x.jsonl", "prompts", heldout=0.2, dev=0.1)


@pytest.mark.parametrize("name", ["no.jsonl", "nul\0.jsonl", "long" * 200 + ".jsonl"])
def test_a_name_that_no_file_has_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"there is no file|cannot be read"):
        read(tmp_path / name, "prompts", heldout=0.2, dev=0.1)


@pytest.mark.parametrize(
    "block", [b"\0" * (1 << 20), b"\n" * (1 << 20), LINE.encode() * 60_000], ids="nul line row".split()
)
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_in_seconds(
    tmp_path: Path, block: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PACKED_SIZE", 5_000_000)
    monkeypatch.setattr(files, "LONGEST", 2_000_000)
    with gzip.open(tmp_path / "x.jsonl.gz", "wb") as file:
        for _ in range(20):
            file.write(block)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"unpack to over|million characters|empty lines"):
        for _ in files.rows(tmp_path / "x.jsonl.gz"):
            pass
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet"])
def test_a_large_file_is_read_as_a_stream(tmp_path: Path, name: str) -> None:
    rows = [{"prompt": f"{n} " + "word " * 200} for n in range(20_000)]  # 20 MB
    if name == "x.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name, row_group_size=500)
    elif name == "x.csv":
        write(tmp_path / name, "prompt\n" + "".join(row["prompt"] + "\n" for row in rows))
    else:
        text = json.dumps(rows) if name == "x.json" else "".join(json.dumps(row) + "\n" for row in rows)
        write(tmp_path / name, text)
    del rows
    tracemalloc.start()
    assert sum(1 for row in files.rows(tmp_path / name) if row.value["prompt"]) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000


def test_a_column_that_python_cannot_hold_is_in_nobodys_way(tmp_path: Path) -> None:
    far = pa.array([2**60, 1], pa.timestamp("ms"))
    pq.write_table(pa.table({"prompt": ["one", "two"], "at": far}), tmp_path / "x.parquet")
    found = read_prompts(tmp_path / "x.parquet", heldout=0.2, dev=0.1)
    assert [prompt.messages[0].content for prompt in found] == ["one", "two"]
    wrong = pa.StringArray.from_buffers(2, pa.py_buffer(b"\x00\0\0\0\x03\0\0\0\x06\0\0\0"), pa.py_buffer(b"onetw\xff"))
    pq.write_table(pa.table({"prompt": wrong}), tmp_path / "y.parquet")
    with pytest.raises(UserError, match="row 2: 'prompt' is not UTF-8"):
        read(tmp_path / "y.parquet", "prompts", heldout=0.2, dev=0.1)


WHOLE = {
    "prompt": [{"role": "user", "content": "caf\xe9"}], "chosen": "a", "rejected": "b", "a": "x", "b": "y",
    "winner": "a", "p": 0.8, "responses": ["a", "b"], "ranks": [1, 2], "split": "train", "tags": ["t"],
}  # fmt: skip
PIECES = [
    b"{",
    b"}",
    b"[",
    b'"',
    b",",
    b":",
    b"null",
    b"\\ud800",
    b"\0",
    b"\xff",
    b"\n",
    b"1e999",
    b"NaN",
    b"[]",
    b"'",
    b"\r",
]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.jsonl.gz"])
def test_whatever_happens_to_a_file_is_a_message_or_rows(tmp_path: Path, name: str) -> None:
    """Bytes flipped, cut and put in at random places: never another exception than UserError."""
    cells = ",".join('"' + json.dumps(cell).replace('"', '""') + '"' for cell in WHOLE.values())
    text = {
        "x.json": json.dumps([WHOLE] * 4, indent=1), "x.csv": ",".join(WHOLE) + "\n" + (cells + "\n") * 4,
    }.get(name, (json.dumps(WHOLE) + "\n") * 4).encode()  # fmt: skip
    whole = gzip.compress(text) if name.endswith(".gz") else text
    draw = random.Random(0)
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            if draw.random() < 0.5:
                data[at : at + draw.randint(0, 6)] = draw.choice(PIECES)
            else:
                data[at] ^= 1 << draw.randrange(8)
        path = write(tmp_path / name, bytes(data))
        for kind in get_args(Kind):
            with contextlib.suppress(UserError):
                read(path, kind, heldout=0.2, dev=0.1)
        with contextlib.suppress(UserError):
            read_rows(path, ("prompt", "chosen", "rejected", "p"))


def test_lone_surrogates_and_nul_are_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"prompt": "\\ud800 \\u0000"}\n')
    assert read_prompts(path, heldout=0.2, dev=0.1)[0].messages[0].content == "\ud800 \0"
