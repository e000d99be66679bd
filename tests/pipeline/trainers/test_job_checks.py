"""Bad input: one line that says where and what, before anything heavy is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.models.checks import check_model_folder
from pipeline.trainers.trainer import Job
from pipeline.training_rows import read_rows

PAIR: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "hello"}],
    "chosen": [{"role": "assistant", "content": "hi"}],
    "rejected": [{"role": "assistant", "content": "no"}],
    "p": 0.9,
}
COLUMNS = ("prompt", "chosen", "rejected", "p")


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_good_rows_come_back_with_their_line_numbers(tmp_path: Path) -> None:
    for name in ("d.jsonl", "d", "d.rows"):
        rows = read_rows(write(tmp_path / name, {**PAIR, "extra": 1}, "", PAIR), COLUMNS)
        assert rows == [{**PAIR, "line": 1}, {**PAIR, "line": 3}]


def test_a_line_separator_inside_a_text_is_not_a_new_row(tmp_path: Path) -> None:
    row = {**PAIR, "chosen": [{"role": "assistant", "content": "one\u2028two"}]}
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert read_rows(path, COLUMNS)[0]["chosen"][0]["content"] == "one\u2028two"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a row is one JSON object"),
        ({"prompt": PAIR["prompt"]}, "line 2: the key 'chosen' is missing"),
        ({**PAIR, "prompt": 5}, "line 2: 'prompt' is a string or a list of messages"),
        ({**PAIR, "prompt": []}, "line 2: 'prompt' is a string or a list of messages"),
        ({**PAIR, "chosen": [{"role": "assistant"}]}, r"line 2: chosen\[0\] needs a 'content' that is text"),
        ({**PAIR, "chosen": [{"role": "bot", "content": ""}]}, r"line 2: chosen\[0\] needs a 'role' of .*, not 'bot'"),
        ({**PAIR, "chosen": PAIR["prompt"]}, "line 2: 'chosen' has to end in an assistant's message"),
        ({**PAIR, "prompt": PAIR["chosen"]}, "line 2: prompt: the last message is the assistant's"),
        ({**PAIR, "rejected": PAIR["chosen"]}, "line 2: chosen and rejected are the same answer"),
        ({**PAIR, "p": 1.5}, r"line 2: p is 1.5; it is the probability that `chosen` is the better"),
        ({**PAIR, "p": 0.2}, r"line 2: p is 0.2; .*swap the two"),
        ({**PAIR, "p": "high"}, "line 2: p must be a number, not 'high'"),
        (
            '{"prompt": [{"role":"user","content":"q"}], "chosen": [{"role":"assistant","content":"a"}], '
            '"rejected": [{"role":"assistant","content":"b"}], "p": NaN}',
            "line 2: p must be a number, not nan",
        ),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, bad: Any, message: str) -> None:
    path = write(tmp_path / "d.jsonl", PAIR, bad)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path, COLUMNS)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_first_bad_row_is_told_with_the_number_of_others(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: not JSON.*\(2 more bad rows\)"):
        read_rows(write(tmp_path / "d.jsonl", "{", "{", "{", PAIR), COLUMNS)


def test_a_missing_an_empty_and_a_binary_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_rows(tmp_path / "none.jsonl", COLUMNS)
    with pytest.raises(UserError, match="is empty; it needs rows with prompt, chosen, rejected, p"):
        read_rows(write(tmp_path / "d.jsonl", "\n"), COLUMNS)
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-16"):
        read_rows(tmp_path / "d.jsonl", COLUMNS)


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "model")
    return tmp_path / "model"


def test_a_whole_model_folder_passes(folder: Path) -> None:
    check_model_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        check_model_folder(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model-00002-of-00002.safetensors is missing"):
        check_model_folder(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickle \(pytorch_model.bin\), which can run code"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_request_to_run_code_is_refused(folder: Path, name: str) -> None:
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    with pytest.raises(UserError, match="asks for code of its own"):
        check_model_folder(folder)


def test_an_adapter_is_checked_with_its_base(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(folder, adapter)
    (adapter / "config.json").unlink()
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    check_model_folder(adapter)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors is missing"):
        check_model_folder(adapter)


def test_a_job_survives_its_file_and_a_bad_file_is_refused(tmp_path: Path) -> None:
    job = Job(id="a1", method="dpo", model="m", out="o", dataset="d", arguments={"beta": 0.2}, lora={"r": 4}, seed=3)
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job
    for content, message in [
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        ('{"id": "a"}', "lacks dataset, method, model, out"),
        ('{"id": "a", "lr": 1}', "no field lr"),
    ]:
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match=message):
            Job.read(tmp_path / "bad.json")
    with pytest.raises(UserError, match="cannot be read"):
        Job.read(tmp_path / "none.json")
