"""`precept data export` and `precept data import`: rows in TRL's columns, whole files, texts that come back as they
were."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli import main
from constitution.errors import UserError
from service.actions import exports
from service.actions.data_files import COLUMNS, DataSet, Format, Split

HOSTILE = [
    "=1+1",
    "@cmd",
    "nul \x00 here",
    "lone \ud800 surrogate",
    "\u202ebidi\u2028line",
    "a\nb\r\n\tc",
    '"quoted", ,',
]


def rows_of(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_preferences_are_the_decided_labels(name, store, labelled, precept) -> None:
    done = precept("data", "export", name, "--json").json
    assert done["left_out"]["tied"] == 1 and done["left_out"]["unreadable"] == 1
    rows = {row["prompt"][0]["content"]: row for row in rows_of(Path(name))}
    assert set(rows) == {"Question 0?", "Question 1?", "Question 4?"}  # 2 is tied, 3 unreadable, 5 held out
    row = rows["Question 0?"]
    assert row["prompt"] == [{"role": "user", "content": "Question 0?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "a longer answer 0 \x1b[31m[red]\u202e"}]
    assert row["rejected"] == [{"role": "assistant", "content": "short 0"}]
    assert row["p"] == pytest.approx(0.95)  # `kind` alone votes: 1/2 + (0.95 + 0.95 - 1) / 2
    card = Path("README.md").read_text()
    assert "- 1 tied" in card and "- 1 unreadable" in card and labelled.run.id.hex() in card
    assert f'data_files: "{name}"' in card


def test_other_splits_are_exported_when_asked_for(store, labelled, precept) -> None:
    assert precept("data", "export", "h.jsonl", "--split", "heldout", "--json").json["rows"] == 1
    assert precept("data", "export", "a.jsonl", "--split", "all", "--json").json["rows"] == 4
    nothing = precept("data", "export", "d.jsonl", "--split", "dev")
    assert nothing.code == 2 and not Path("d.jsonl").exists()


def test_unpaired_and_prompt_only(store, labelled, precept) -> None:
    precept("data", "export", "u.jsonl", "--format", "unpaired")
    rows = rows_of(Path("u.jsonl"))
    assert [set(row) for row in rows] == [{"prompt", "completion", "label"}] * 6
    assert {row["completion"][0]["content"]: row["label"] for row in rows}["short 0"] is False
    precept("data", "export", "p.jsonl", "--format", "prompt-only")
    assert sorted(row["prompt"][0]["content"] for row in rows_of(Path("p.jsonl"))) == [
        f"Question {n}?" for n in range(5)
    ]


def test_an_answer_that_won_and_lost_has_no_label_of_its_own() -> None:
    prompt, said = [{"role": "user", "content": "q"}], [[{"role": "assistant", "content": x}] for x in "abc"]
    pairs = [
        {"prompt": prompt, "chosen": said[0], "rejected": said[1]},
        {"prompt": prompt, "chosen": said[1], "rejected": said[2]},
    ]
    found = exports._unpaired(DataSet(pairs))
    assert [(row["completion"], row["label"]) for row in found.rows] == [(said[0], True), (said[2], False)]
    assert found.left_out == {"answers that won and lost": 1}


def test_datasets_reads_what_was_written(store, labelled, precept, tmp_path) -> None:
    from datasets import Dataset

    for name in ("out/pairs.jsonl", "out/pairs.parquet"):
        precept("data", "export", name)
        read = Dataset.from_parquet if name.endswith("parquet") else Dataset.from_json
        table = read(name, cache_dir=str(tmp_path / "cache"))
        assert set(table.column_names) == set(COLUMNS[Format.preference])
        assert len(table) == 3


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_texts_come_back_as_they_were(suffix, project, store, precept) -> None:
    rows = [
        {"prompt": text, "chosen": text + " better", "rejected": text + " worse", "split": "train"} for text in HOSTILE
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = precept("data", "import", "preferences", "in.jsonl", "--json").json["run"]
    done = precept("data", "export", f"out{suffix}", "--run", run, "--json").json
    found = {
        row["prompt"][0]["content"]: (row["chosen"][0]["content"], row["p"]) for row in rows_of(Path(f"out{suffix}"))
    }
    kept = [text for text in HOSTILE if suffix == ".jsonl" or "\ud800" not in text]
    assert found == {text: (text + " better", 1.0) for text in kept}
    assert sum(done["left_out"].values()) == len(HOSTILE) - len(kept)
    again = Path(f"again{suffix}")
    again.write_bytes(Path(f"out{suffix}").read_bytes())
    assert precept("data", "import", "preferences", again, "--json").json["stored"]["pairs"] == len(kept)


def test_an_export_that_fails_leaves_the_old_file(store, labelled, precept, monkeypatch) -> None:
    out = Path("pairs.jsonl")
    out.write_text("old")
    import os

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    outcome = precept("data", "export", out)
    assert outcome.code == 2 and "make room" in outcome.err
    assert out.read_text() == "old"
    assert sorted(p.name for p in Path().glob("*pairs*")) == ["pairs.jsonl"]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet", "pairs.csv"])
def test_an_export_on_a_full_disk_is_one_line_and_leaves_the_old_file(store, labelled, precept, name: str) -> None:
    out = Path(name)
    out.write_text("old")
    before = sorted(Path().iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store.runs()  # its own files are there
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code = main.run(["data", "export", name, "--json"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 2
    assert out.read_text() == "old" and sorted(Path().iterdir()) == before


def test_somebody_elses_readme_is_left_alone(store, labelled, precept) -> None:
    Path("README.md").write_text("mine")
    assert precept("data", "export", "pairs.jsonl", "--json").json["card"] == "pairs.README.md"
    assert Path("README.md").read_text() == "mine"
    precept("data", "export", "data/one.jsonl")
    assert precept("data", "export", "data/two.jsonl", "--json").json["card"] == "data/two.README.md"
    assert precept("data", "export", "data/one.jsonl", "--json").json["card"] == "data/README.md"  # its own is renewed


BAD = [
    '{"prompt": "q", "a": "x", "b": "x"}',
    "not json",
    '{"prompt": "q", "a": "x"}',
    '{"prompt": [{"role": "user", "content": "q"}], "a": "one", "b": [{"role": "assistant", "content": "two"}]}',
]


def test_bad_rows_are_told_of_by_line_and_skipped_only_when_asked(project, store, precept) -> None:
    Path("pairs.jsonl").write_text("\n".join(BAD))
    refused = precept("data", "import", "pairs", "pairs.jsonl")
    assert refused.code == 2
    for line, problem in ((1, "the same text"), (2, "not JSON"), (3, "'b' is missing")):
        assert any(f"pairs.jsonl:{line}:" in said and problem in said for said in refused.err.split("\n"))
    assert store.runs() == [] and store.prompts() == []
    taken = precept("data", "import", "pairs", "pairs.jsonl", "--skip-bad", "--json")
    assert taken.json["stored"] == {"prompts": 1, "pairs": 1}
    assert taken.json["skipped"] == 3 and "pairs.jsonl:3:" in taken.err
    (pair,) = store.pairs(store.stage_members(store.runs()[0].id, "pairs"))
    assert {pair.first, pair.second} == {"one", "two"}


def test_the_same_file_twice_is_one_import(project, store, precept) -> None:
    Path("p.jsonl").write_text('{"prompt": "q", "chosen": "x", "rejected": "y"}\n')
    first = precept("data", "import", "preferences", "p.jsonl", "--json").json
    assert precept("data", "import", "preferences", "p.jsonl", "--json").json["run"] == first["run"]
    assert len(store.runs()) == 1


def test_imported_pairs_outlive_the_garbage(project, store, precept) -> None:
    pq.write_table(pa.table({"prompt": ["q"], "a": ["x"], "b": ["y"]}), "pairs.parquet")
    run = precept("data", "import", "pairs", "pairs.parquet", "--json").json["run"]
    store.collect(-10)
    (pair,) = store.pairs(store.stage_members(bytes.fromhex(run), "pairs"))
    assert {pair.first, pair.second} == {"x", "y"}


def test_prompts_are_imported_with_their_split_and_tags(project, store, precept) -> None:
    assert precept("data", "import", "prompts", "prompts.jsonl", "--json").json["splits"] == {
        "train": 5,
        "dev": 0,
        "heldout": 1,
    }
    assert {p.tags for p in store.prompts()} == {("harmless",)}
    with pytest.raises(UserError, match="nothing was judged"):
        exports.collect(store, "", Format.preference, Split.train)
