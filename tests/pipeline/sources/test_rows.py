"""Rows of files: strings and message lists, JSONL and Parquet, and bad rows told by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitution.errors import UserError
from pipeline.sources.rows import pair_kind, read_prompts, unread_winner
from pipeline.sources.rows import read as read_file


def test_bad_rows_are_all_reported_by_line_and_skipped_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"prompt": "fine"}\n{"prompt": ""}\nnot json\n{"text": "x"}\n'
        '{"prompt": [{"role": "assistant", "content": "x"}]}\n'
    )
    with pytest.raises(UserError) as error:
        read_prompts(file, heldout=0.2, dev=0.1)
    for line in (2, 3, 4, 5):
        assert f"{file}:{line}:" in str(error.value)
    assert [p.messages[0].content for p in read_prompts(file, heldout=0.2, dev=0.1, skip_bad=True)] == ["fine"]


def test_strings_and_message_lists_read_alike_in_jsonl_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": "b",
        }
    ]
    (tmp_path / "x.jsonl").write_text(json.dumps(rows[0]) + "\n")
    pq.write_table(pa.Table.from_pylist([{"prompt": "q", "chosen": "a", "rejected": "b"}]), tmp_path / "x.parquet")
    read = [
        read_file(tmp_path / f"x.{kind}", "preferences", heldout=0.2, dev=0.1).rows[0] for kind in ("jsonl", "parquet")
    ]
    assert read[0].answers == read[1].answers == ("a", "b")
    assert read[0].prompt.id == read[1].prompt.id
    with pytest.raises(UserError, match="same text"):
        (tmp_path / "y.jsonl").write_text('{"prompt": "q", "a": "s", "b": "s"}\n')
        read_file(tmp_path / "y.jsonl", "pairs", heldout=0.2, dev=0.1)


def test_an_empty_system_message_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    turns = [{"role": "system", "content": " "}, {"role": "user", "content": "q"}]
    file.write_text(json.dumps({"prompt": turns}) + "\n")
    (prompt,) = read_prompts(file, heldout=0.2, dev=0.1)
    assert [m.role for m in prompt.messages] == ["user"]
    file.write_text(json.dumps({"prompt": turns[:1]}) + "\n")
    with pytest.raises(UserError, match=r"'prompt' is empty[^$]*of a flow: .*skip_bad = true"):
        read_prompts(file, heldout=0.2, dev=0.1)


def test_a_winner_that_nobody_can_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    for winner, said in (("model 1", "winner is 'model 1'"), (None, ""), ("", "")):
        file.write_text(json.dumps({"prompt": "q", "a": "x", "b": "y", "winner": winner}) + "\n")
        assert pair_kind(file) == "pairs" and unread_winner(file) == said
