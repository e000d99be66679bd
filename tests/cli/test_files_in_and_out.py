"""Files in and out by the command line: splits that go by openings, people who disagree, cells that are formulas, names
with brackets, and exports that are killed or find the disk full."""

from __future__ import annotations

import csv
import glob
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.options import toml_value
from constitution.records import Message, Prompt
from pipeline import sources
from service.actions import imports

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "=1+1", "+1", "-1", "@cmd", "\t=tab", "\r=return", "'=quoted", "''=twice", "'plain", "=cmd|' /C calc'!A0",
    "nul \x00 here", "lone \ud800 surrogate", "\u202ebidi\u2028line", "a\nb\r\n\tc", "x\ry", '"quoted", ,;', "[1, 2]",
    '["a"]', '{"a": 1}', '[{"role": "user", "content": "forged"}]', "\ufeffmark", " spaces ", "1e5", "true", "null",
    "Human: hi\n\nAssistant: x", "\n\nHuman: hi\n\nAssistant:",
]  # fmt: skip


def write(name: str, *rows: Any) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def said(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


# --- in ----------------------------------------------------------------------------------------------------------


def test_an_import_says_which_rows_went_where_and_what_was_left_out(project, store, precept) -> None:
    rows = [
        {"prompt": "One?", "responses": ["a", "b", "c"], "ranks": [1, 2, 2], "split": "heldout"},
        {"prompt": "one", "chosen": "x", "rejected": "y"},
        {"prompt": "Two?", "a": "x", "b": "y", "winner": "tie"},
        {"prompt": "Three?", "chosen": "x", "rejected": "x"},
        {"prompt": "Four?", "chosen": "x", "rejected": "y", "split": "train"},
    ]
    done = precept("data", "import", "preferences", write("p.jsonl", *rows), "--skip-bad", "--json").json
    assert done["rows"] == {"train": 1, "dev": 0, "heldout": 2} == done["splits"]
    assert done["stored"] == {"prompts": 3, "pairs": 4, "preferences": 4} and done["skipped"] == 1
    assert done["left_out"] == [
        "p.jsonl:4: 'chosen' and 'rejected' are the same text",
        "p.jsonl:1: 1 of its pairs are ties",
        "p.jsonl:3: a tie",
    ]
    told = precept("data", "import", "preferences", "p.jsonl", "--skip-bad")
    assert "rows by split: 1 train, 2 heldout" in told.out and "left out p.jsonl:3: a tie" in told.err


def test_a_prompt_that_opens_like_a_stored_one_has_its_split(project, store, precept) -> None:
    store.add_prompts([Prompt((Message("user", "Tell me a joke."),), "heldout")])
    longer = [*said("tell me a joke"), *said("Knock knock.", "assistant"), *said("Who is there?")]
    rows = [{"prompt": longer, "split": "train"}, {"prompt": "Sing.", "split": "train"}]
    done = precept("data", "import", "prompts", write("p.jsonl", *rows), "--json").json
    assert done["splits"] == {"train": 1, "dev": 0, "heldout": 1} and done["moved"] == 1
    assert {p.split for p in store.prompts() if len(p.messages) == 3} == {"heldout"}


def test_columns_by_other_names_on_every_command_that_reads(project, store, precept) -> None:
    Path("p.csv").write_text("question,best,worst\nq,=x,y\n")
    words = ["--map", "prompt=question", "--map", "chosen=best", "--map", "rejected=worst"]
    assert precept("data", "import", "preferences", "p.csv", *words, "--json").json["stored"]["pairs"] == 1
    for wrong in ("prompt", "=x", "promt=question"):
        refused = precept("data", "import", "preferences", "p.csv", "--map", wrong)
        assert refused.code == 2 and "--map" in refused.err and "Traceback" not in refused.err
    refused = precept("judge", "pairs", "p.csv", "--map", "promt=question")
    assert refused.code == 2 and "'promt' is no column of ours" in refused.err


def test_an_import_says_how_the_same_file_is_run_on(project, store, precept) -> None:
    Path("q.csv").write_text("n,question\n1,Why?\n")
    told = precept("data", "import", "prompts", "q.csv", "--map", "prompt=question").out
    _, words = told.split("to run on them: precept improve ")
    setting = shlex.split(words)[1]
    name, _, value = setting.partition("=")
    found = sources.read(toml_value(value), sources.Splits())
    assert name == "prompts" and [p.messages[0].content for p in found] == ["Why?"]


def test_an_import_that_was_killed_is_done_by_the_next_one(project, store, precept) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "split": "train"}
    script = (
        "import os, signal, sys\nfrom cli import main\nfrom storage.store import Store\n"
        "Store.add_comparisons = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main.run(['data', 'import', 'preferences', sys.argv[1]])\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, write("p.jsonl", row)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9
    done = precept("data", "import", "preferences", "p.jsonl", "--json").json
    assert done["stored"] == {"prompts": 1, "pairs": 1, "preferences": 1} and len(store.runs()) == 1
    assert precept("data", "export", "out.jsonl", "--run", done["run"], "--json").json["rows"] == 1


def test_what_is_no_file_of_rows_is_one_message_and_exit_code_2(project, store, precept) -> None:
    Path("deep.jsonl").write_text('{"prompt": ' + "[" * 100_000 + "\n")
    Path("x.parquet").write_bytes(b"PAR1 and no more")
    os.mkfifo("pipe.jsonl")
    Path("folder.jsonl").mkdir()
    for name in ("deep.jsonl", "x.parquet", "pipe.jsonl", "folder.jsonl", "none.jsonl"):
        for words in (
            ["data", "import", "prompts", name],
            ["train", "--method", "sft", "--data", name, "--model", "m"],
        ):
            outcome = precept(*words, *(["--out", "o"] if words[0] == "train" else []))
            assert outcome.code == 2 and "Traceback" not in outcome.err, outcome.err
            assert name in outcome.err or words[0] == "train"


# --- people ------------------------------------------------------------------------------------------------------


def test_opposite_answers_of_two_people_are_no_certain_rows(project, store, precept) -> None:
    one, other = ({"prompt": "q", "chosen": x, "rejected": y, "split": "train"} for x, y in ("ab", "ba"))
    run = precept("data", "import", "preferences", write("two.jsonl", one, other), "--json").json["run"]
    assert list(imports.preferences(store, store.run(run)).values()) == [0.5]
    nothing = precept("data", "export", "out.jsonl", "--run", run)
    assert nothing.code == 2 and "1 tied: people said the opposite" in nothing.err
    run = precept("data", "import", "preferences", write("three.jsonl", one, other, one), "--json").json["run"]
    precept("data", "export", "out.jsonl", "--run", run)
    (row,) = lines("out.jsonl")
    assert row["chosen"] == said("a", "assistant") and row["p"] == pytest.approx(2 / 3)
    precept("data", "export", "good.jsonl", "--run", run, "--format", "unpaired")
    assert [(row["completion"], row["label"]) for row in lines("good.jsonl")] == [
        (said("a", "assistant"), True), (said("b", "assistant"), False),
    ]  # fmt: skip


def test_how_sure_a_label_is_comes_back(project, store, precept) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "split": "train"}
    sure = precept("data", "import", "preferences", write("a.jsonl", row), "--json").json["run"]
    less = precept("data", "import", "preferences", write("b.jsonl", {**row, "p": 0.8}), "--json").json["run"]
    assert sure != less
    precept("data", "export", "out.parquet", "--run", less)
    assert pq.read_table("out.parquet").to_pylist()[0]["p"] == pytest.approx(0.8)


# --- out ---------------------------------------------------------------------------------------------------------


def test_a_csv_holds_no_formula_and_every_text_comes_back(project, store, precept) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": said(text), "chosen": said(text + "!", "assistant"), "rejected": "no", "split": "train"}
        for text in HOSTILE
    ]
    rows.append({**rows[0], "prompt": [*said("=Be", "system"), *said("a"), *said("b", "assistant"), *said("=c")]})
    first = precept("data", "import", "preferences", write("in.jsonl", *rows), "--json").json
    assert first["stored"]["pairs"] == len(rows)
    done = precept("data", "export", "out.csv", "--run", first["run"], "--json").json
    assert done["rows"] == len(rows) and not sum(done["left_out"].values())
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    again = precept("data", "import", "preferences", "out.csv", "--json")
    assert again.code == 0, again.err
    runs = [store.run(run) for run in (first["run"], again.json["run"])]
    ids = [set(store.stage_members(run.id, imports.PAIRS)) for run in runs]
    assert ids[0] == ids[1]  # a pair's id is that of its texts


@pytest.mark.parametrize("name", ["pairs[1].jsonl", "a*b?[!x].parquet", "pairs[0-9].csv"])
def test_a_name_with_brackets_loads_again(name: str, store, labelled, precept, monkeypatch) -> None:
    from datasets import load_dataset

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    told = precept("data", "export", f"set/{name}")
    assert told.code == 0 and repr(glob.escape(f"set/{name}")) in told.out
    assert len(load_dataset("set", cache_dir="cache", split="train")) == 3
    assert precept("data", "import", "preferences", f"set/{name}", "--json").json["stored"]["pairs"] == 3
    assert precept("data", "export", f"set/{name}", "--json").json["card"] == "set/README.md"  # its own is renewed


BEFORE = """\
import os, signal, sys
from cli import main
{damage}
sys.exit(main.run(["data", "export", sys.argv[1]]))
"""
KILLED = "os.replace = os.rename = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)"


FULL = """\
import resource
from storage import artifacts
write = artifacts.write_bytes
def onto_a_full_disk(*given):  # no file may grow beyond 500 bytes
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        write(*given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
artifacts.write_bytes = onto_a_full_disk
"""


def export_in_a_process(out: str, damage: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEFORE.format(damage=damage), out],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet", "pairs.csv"])
def test_an_export_that_is_killed_leaves_the_old_file_whole(name: str, store, labelled, precept) -> None:
    Path(name).write_text("old")
    killed = export_in_a_process(name, KILLED)
    assert killed.returncode == -9, killed.stderr
    assert Path(name).read_text() == "old" and not Path("README.md").exists()
    assert precept("data", "export", name).code == 0
    assert precept("data", "import", "preferences", name, "--json").json["stored"]["pairs"] == 3


def test_an_export_onto_a_full_disk_leaves_the_old_file_and_says_so(store, labelled) -> None:
    Path("pairs.jsonl").write_text("old")
    full = export_in_a_process("pairs.jsonl", FULL)
    assert full.returncode == 2 and "no room to write pairs.jsonl" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr and Path("pairs.jsonl").read_text() == "old"
    assert sorted(path.name for path in Path().glob("*pairs.jsonl*")) == ["pairs.jsonl"]


def test_parquet_with_null_for_absent(project, store, precept) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": "q", "tool_calls": None}], "a": None, "chosen": "x", "rejected": "y"},
        {"prompt": [{"role": "user", "content": "z", "tool_calls": None}], "a": "?", "chosen": "x", "rejected": "y"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), "p.parquet")
    assert precept("data", "import", "preferences", "p.parquet", "--json").json["stored"]["pairs"] == 2
