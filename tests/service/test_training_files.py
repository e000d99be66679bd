"""`precept train` on files as they lie about: other columns, other shapes, and rows that are held out somewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message, Prompt
from pipeline.trainers import dpo, kto, ppo, sft
from pipeline.training_rows import read_rows, to_train_on
from sandbox.models import folder
from service.actions.train import EvaluationCallback, Order, job
from service.settings import load
from storage.store import Store


def write(name: str, *rows: Any) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(rows: list[dict[str, Any]]) -> list[str]:
    return [row["prompt"][0]["content"] for row in rows]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def order(data: Path, **given: Any) -> Order:
    return Order(given.pop("method", "sft"), data, folder("policy"), Path("out"), **given)


def test_rows_that_open_like_held_out_ones_are_not_trained_on() -> None:
    """By the opening: in other words of case and spacing, in a longer dialogue, in the rows to evaluate on, in the
    project's store, and by the split that the file itself says."""
    longer = [
        {"role": "user", "content": "how do I  BAKE?"},
        {"role": "assistant", "content": "What?"},
        {"role": "user", "content": "Bread."},
    ]
    data = write(
        "rows.jsonl",
        *({"prompt": prompt, "completion": "So."} for prompt in ("How do I sing?", "How do I bake", longer, "Stored?")),
        {"prompt": "Marked?", "completion": "So.", "split": "heldout"},
    )
    evaluated = write("eval.jsonl", {"prompt": "How do I bake?", "completion": "So."})
    with Store.open("sqlite:///runs/precept.db") as store:
        store.add_prompts(
            [Prompt((Message("user", "stored"),), "heldout"), Prompt((Message("user", "Sung"),), "train")]
        )
    said: list[str] = []
    made = job(order(data, evaluate=evaluated), lambda: load()[0], said.append)
    assert asked(read_rows(Path(made.dataset), sft.COLUMNS)) == ["How do I sing?"]
    assert said == [
        "rows.jsonl: 1 rows are left out: the file holds them out (split)",
        "rows.jsonl: 3 rows are left out: they open as a prompt that is held out",
    ]
    with pytest.raises(UserError, match="no row of it may be trained on"):
        job(order(evaluated, evaluate=evaluated), lambda: load()[0])


def test_what_the_settings_hold_out_is_not_trained_on_before_there_is_a_store() -> None:
    write("prompts.jsonl", {"prompt": "Held?", "split": "heldout"}, {"prompt": "Mine?", "split": "train"})
    Path("precept.toml").write_text('prompts = "prompts.jsonl"\n')
    data = write("rows.jsonl", *({"prompt": prompt, "completion": "a"} for prompt in ("held", "mine", "other")))
    assert asked(read_rows(Path(job(order(data), lambda: load()[0]).dataset), sft.COLUMNS)) == ["mine", "other"]
    Path("prompts.jsonl").unlink()
    assert job(order(data), lambda: load()[0]).dataset == "rows.jsonl"


def test_a_file_that_needs_nothing_is_trained_on_as_it_lies() -> None:
    data = write("rows.jsonl", {"prompt": [{"role": "user", "content": "q"}], "completion": "a"})
    made = job(order(data), lambda: load()[0])
    assert made.dataset == "rows.jsonl" and not Path("out.data").exists() and not Path("runs").exists()


def test_columns_of_other_names_are_mapped_in_every_file_of_a_job() -> None:
    names = {"prompt": "q.text", "completion": "said", "answer": "said"}
    data = write("rows.jsonl", {"q": {"text": "one"}, "said": "a"})
    evaluated = write("eval.jsonl", {"q": {"text": "two"}, "said": "b"})
    made = job(order(data, evaluate=evaluated, names=names), lambda: load()[0])
    assert asked(read_rows(Path(made.dataset), sft.COLUMNS)) == ["one"]
    assert asked(read_rows(Path(str(made.eval_dataset)), sft.COLUMNS)) == ["two"]
    with pytest.raises(UserError, match="'promt' is no column of ours"):
        job(order(data, names={"promt": "q"}), lambda: load()[0])
    with pytest.raises(UserError, match="line 1: the key 'completion' is missing"):
        job(order(data, names={"prompt": "q.text"}), lambda: load()[0])


def test_the_rows_that_are_compared_with_are_mapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.actions import train

    seen = []
    monkeypatch.setattr(
        train, "_online", lambda method, given, settings: seen.append(given.callback.rows) or (None, None)
    )
    data, watch = write("rows.jsonl", {"q": "one"}), write("watch.jsonl", {"q": "one", "text": "a"})
    names = {"prompt": "q", "answer": "text"}
    job(order(data, method="ppo", callback=EvaluationCallback(watch), names=names), lambda: load()[0])
    assert read_rows(seen[0], ("prompt", "answer"))[0]["answer"] == "a"


def test_a_pair_that_is_there_both_ways_is_not_two_certain_rows() -> None:
    one, other = ({"prompt": "q", "chosen": x, "rejected": y} for x, y in (("a", "b"), ("b", "a")))
    alone = {"prompt": "z", "chosen": "a", "rejected": "b"}
    found = to_train_on(write("tie.jsonl", one, alone, other, alone), dpo.COLUMNS)
    assert asked(found.rows) == ["z", "z"] and list(found.left_out.values()) == [2]
    (row,) = to_train_on(write("two.jsonl", other, one, one), dpo.COLUMNS).rows
    assert (row["chosen"][0]["content"], row["p"]) == ("a", pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        (dpo.COLUMNS, {"prompt": "q", "chosen": "a", "rejected": "b"}, {"p": 1.0}),
        (
            dpo.COLUMNS,
            {
                "prompt": [{"role": "user", "content": "q"}],
                "chosen": [{"role": "assistant", "content": "a"}],
                "rejected": [{"role": "assistant", "content": "b"}],
            },
            {"p": 1.0},
        ),
        (dpo.COLUMNS, {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.8}, {"p": 0.8}),
        (kto.COLUMNS, {"prompt": "q", "completion": "a", "label": False}, {"label": False}),
        (ppo.COLUMNS, {"prompt": "q", "chosen": "a", "rejected": "b"}, {}),
        (("prompt", "answer"), {"prompt": "q", "answer": "a"}, {"answer": "a"}),
    ],
)
def test_texts_and_messages_train_alike(
    columns: tuple[str, ...], row: dict[str, Any], expected: dict[str, Any]
) -> None:
    (read,) = read_rows(write("rows.jsonl", row), columns)
    assert read["prompt"] == [{"role": "user", "content": "q"}]
    for name in ("chosen", "completion"):
        if name in columns:
            assert read[name] == [{"role": "assistant", "content": "a"}]
    assert {name: read[name] for name in expected} == expected


def test_no_number_of_any_length_is_a_traceback() -> None:
    Path("rows.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b", "p": ' + "9" * 400 + "}\n")
    with pytest.raises(UserError, match="line 1: p must be a number"):
        read_rows(Path("rows.jsonl"), dpo.COLUMNS)
