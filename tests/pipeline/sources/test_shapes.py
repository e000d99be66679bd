"""The table of shapes in docs/data.md, row by row; and what is not taken, each with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline.sources.rows import Kind, pair_kind, read
from pipeline.trainers import dpo, kto, ppo, sft
from pipeline.training_rows import read_rows

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def table(heading: str) -> list[tuple[str, int]]:
    """The rows of a section's table: the JSON of the example, and how many pairs it is (1 where no column says)."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| `(\{.*\})` \|(?: (\d+) \|)?$", section, re.MULTILINE)
    assert len(rows) == section.count("\n| ") - 1
    return [(row, int(pairs or 1)) for row, pairs in rows]


def write(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def told(path: Path, kind: Kind) -> str:
    with pytest.raises(UserError) as error:
        read(path, kind, heldout=0.2, dev=0.1)
    return str(error.value)


@pytest.mark.parametrize("row", [row for row, _ in table("Prompts")])
def test_prompts(tmp_path: Path, row: str) -> None:
    (found,) = read(write(tmp_path, row), "prompts", heldout=0.2, dev=0.1).rows
    assert (found.prompt.messages[-1].role, found.prompt.messages[-1].content) == ("user", "Why?")
    assert "Because." not in {m.content for m in found.prompt.messages}
    (trained,) = read_rows(write(tmp_path, row), ppo.COLUMNS)
    assert [m["content"] for m in trained["prompt"]] == [m.content for m in found.prompt.messages]


@pytest.mark.parametrize(("row", "pairs"), table("Preferences"))
def test_preferences(tmp_path: Path, row: str, pairs: int) -> None:
    whole = {"prompt": "Else?", "chosen": "Because.", "rejected": "No."}
    path = write(tmp_path, row, whole)
    assert pair_kind(path) == "preferences"
    found = read(path, "preferences", heldout=0.2, dev=0.1)
    assert len(found.rows) == pairs + 1 and len(found.ties) == (pairs == 0) and not found.problems
    for one in found.rows[:-1]:
        assert one.answers == ("Because.", "No.") and one.prompt.messages[-1].content == "Why?"
        assert one.p == json.loads(row).get("p", 1)
    trained = read_rows(path, dpo.COLUMNS)
    assert len(trained) == pairs + 1
    for each in trained[:-1]:
        assert each["prompt"][-1] == {"role": "user", "content": "Why?"}
        assert each["chosen"] == [{"role": "assistant", "content": "Because."}]
        assert each["rejected"] == [{"role": "assistant", "content": "No."}]


@pytest.mark.parametrize(("row", "pairs"), table("Pairs"))
def test_pairs(tmp_path: Path, row: str, pairs: int) -> None:
    path = write(tmp_path, row)
    assert pair_kind(path) == "pairs"
    found = read(path, "pairs", heldout=0.2, dev=0.1).rows
    assert len(found) == pairs and found[0].answers == ("Because.", "No.")
    assert {one.prompt.messages[-1].content for one in found} == {"Why?"}


@pytest.mark.parametrize("row", [row for row, _ in table("Answers")])
def test_answers(tmp_path: Path, row: str) -> None:
    path = write(tmp_path, row)
    for columns in (sft.COLUMNS, ("prompt", "answer"), *([kto.COLUMNS] if "label" in row else [])):
        (found,) = read_rows(path, columns)
        assert found["prompt"] == [{"role": "user", "content": "Why?"}]
        assert found[columns[1]] in ("Because.", [{"role": "assistant", "content": "Because."}])
        assert found.get("label", True) is True


def test_a_ranking_of_several_is_each_pair_that_is_no_tie(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "responses": ["a", "b", "c", "d"], "rankings": [2, 1, 2, 3]}
    found = read(write(tmp_path, row), "preferences", heldout=0.2, dev=0.1)
    assert {one.answers for one in found.rows} == {("b", "a"), ("b", "c"), ("b", "d"), ("a", "d"), ("c", "d")}
    assert len(found.ties) == 1 and "1 of its pairs are ties" in found.ties[0]


def test_columns_by_other_names_and_from_inside(tmp_path: Path) -> None:
    row = {"rejected": "good", "chosen": "bad", "turns": ["Why?"], "x.y": "tagged"}
    names = {"chosen": "rejected", "rejected": "chosen", "prompt": "turns.0", "source": "x.y"}
    (found,) = read(write(tmp_path, row), "preferences", heldout=0.2, dev=0.1, names=names).rows
    assert found.answers == ("good", "bad") and found.prompt.messages[0].content == "Why?"
    assert found.prompt.source == "tagged"


def test_votes_on_whole_dialogues_are_mapped(tmp_path: Path) -> None:
    """As an arena has them, in Parquet or in lines."""
    sides = ([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": text}] for text in ("a", "b"))
    row = dict(zip(("conversation_a", "conversation_b"), sides, strict=True))
    names = {"a": "conversation_a", "b": "conversation_b"}
    rows = [{**row, "winner": winner} for winner in ("model_b", "tie (bothbad)", "model_a")]
    found = read(write(tmp_path, *rows), "preferences", heldout=0.2, dev=0.1, names=names)
    assert [one.answers for one in found.rows] == [("b", "a"), ("a", "b")] and len(found.tied) == 1


def test_a_column_that_means_something_else_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "q", "split": "testing", "tags": "one"})
    assert "--map split= leaves it out" in told(path, "prompts")
    (found,) = read(path, "prompts", heldout=1, dev=0, names={"split": ""}).rows
    assert (found.prompt.split, found.prompt.tags) == ("heldout", ("one",))


@pytest.mark.parametrize("kind", ["prompts", "preferences"])
def test_a_mapped_column_that_no_row_has_is_told(tmp_path: Path, kind: Kind) -> None:
    path = write(tmp_path, {"prompt": "q", "chosen": "a", "rejected": "b"})
    with pytest.raises(UserError, match=r"--map prompt=quesion: no row of .* has 'quesion'; the first has 'prompt'"):
        read(path, kind, heldout=0.2, dev=0.1, names={"prompt": "quesion"})
    with pytest.raises(UserError, match=r"no row of .* has 'good'"):
        read_rows(path, dpo.COLUMNS, {"chosen": "good", "answer": "of another file"})


USER, TOLD = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("prompts", {"prompt": [USER, {"role": "tool", "content": "4"}, USER]}, r"prompt\[1\] is a tool's turn"),
        ("prompts", {"conversations": [{"from": "observation", "value": "4"}]}, r"conversations\[0\] is a tool's turn"),
        ("prompts", {"prompt": [USER, {**TOLD, "tool_calls": [{"id": 1}]}, USER]}, r"prompt\[1\] has 'tool_calls'"),
        (
            "prompts",
            {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            r"prompt\[0\] has a part of type 'image_url': only text is taken",
        ),
        ("prompts", {"prompt": [{"role": "narrator", "content": "x"}]}, r"prompt\[0\] needs a 'role'.*not 'narrator'"),
        ("prompts", {"prompt": [USER, TOLD]}, "ends in a user's turn"),
        ("prompts", {"prompt": " "}, "'prompt' is empty"),
        ("prompts", {"prompt": None, "text": "x"}, r"the key 'prompt' is missing \(it has 'text'\)"),
        ("prompts", {"prompt": "x", "split": "testing"}, "'split' is one of"),
        ("prompts", {"prompt": {"a": [[[]]]}}, "'prompt' is a string or a list of messages"),
        ("preferences", {"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same text"),
        ("preferences", {"prompt": "q", "chosen": "a"}, "the key 'rejected' is missing"),
        ("preferences", {"chosen": "a", "rejected": "b"}, "the key 'prompt' is missing"),
        ("preferences", {"prompt": "q", "chosen": "a", "rejected": "b", "p": 0.2}, "swap the two"),
        ("preferences", {"prompt": "q", "chosen": [USER], "rejected": [TOLD]}, "'chosen' has to end in an assistant's"),
        (
            "preferences",
            {"prompt": "z", "chosen": [USER, TOLD], "rejected": [USER, {**TOLD, "content": "b"}]},
            "open with",
        ),
        (
            "preferences",
            {"chosen": [USER, TOLD], "rejected": [{**USER, "content": "other"}, {**TOLD, "content": "b"}]},
            "part before their last answer",
        ),
        (
            "preferences",
            {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: z", "rejected": "\n\nHuman: q\n\nAssistant: b"},
            "'chosen' has to end in an assistant's",
        ),
        ("preferences", {"prompt": "q", "responses": ["a", "b"]}, "has no ranks .* and no scores"),
        ("preferences", {"prompt": "q", "responses": ["a", "b"], "rankings": [1, 0]}, "'rankings' count from 1"),
        ("preferences", {"prompt": "q", "responses": ["a", "b"], "ranks": [1]}, "has to be a list of 2 numbers"),
        (
            "preferences",
            {"prompt": "q", "responses": ["a", "b"], "scores": [1, "high"]},
            r"scores\[1\] must be a number",
        ),
        (
            "preferences",
            '{"prompt": "q", "responses": ["a", "b"], "scores": [1, NaN]}',
            r"scores\[1\] must be a number",
        ),
        ("preferences", {"prompt": "q", "responses": ["a"], "ranks": [1]}, "has 1 answers; two to 64"),
        ("preferences", {"prompt": "q", "responses": ["a"] * 5000, "ranks": [1] * 5000}, "two to 64"),
        ("preferences", {"prompt": "q", "a": "x", "b": "y", "winner": 1}, "a, b or tie, not 1"),
        ("pairs", {"prompt": "q", "a": "x"}, "the key 'b' is missing"),
        ("pairs", {"prompt": "q", "a": {"role": "user", "content": "x"}, "b": "y"}, "'a' has to end in an assistant's"),
    ],
)
def test_what_is_not_taken_says_why_by_its_row(tmp_path: Path, kind: Kind, row: Any, said: str) -> None:
    fine = {"prompt": "Fine?", "chosen": "x", "rejected": "y", "a": "x", "b": "y"}
    message = told(write(tmp_path, fine, row), kind)
    assert re.search(rf"rows\.jsonl:2: .*{said}", message), message
    assert len(read(write(tmp_path, fine, row), kind, heldout=0.2, dev=0.1, skip_bad=True).rows) == 1


def test_dialogues_that_open_alike_have_one_split_the_most_held_out_that_a_row_says(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Tell me a joke", "split": "train"},
        {"prompt": "tell me  a JOKE!", "split": "heldout"},
        {"prompt": [{"role": "user", "content": "Tell me a joke."}, TOLD, {"role": "user", "content": "More."}]},
        {"prompt": "Sing", "split": "dev"},
    ]
    found = read(write(tmp_path, *rows), "prompts", heldout=0, dev=0)
    assert [one.prompt.split for one in found.rows] == ["heldout", "heldout", "heldout", "dev"]
    assert found.moved == 2


def test_a_text_that_only_speaks_of_humans_stays_a_text(tmp_path: Path) -> None:
    texts = ["Human: what is it?", "\n\nHuman: x\n\nAssistant: y", "Is this\n\nHuman: a\n\nAssistant:"]
    found = read(write(tmp_path, *({"prompt": text} for text in texts)), "prompts", heldout=0.2, dev=0.1).rows
    assert [[m.content for m in one.prompt.messages] for one in found] == [[text] for text in texts]


SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize(
    ("file", "kind", "rows"),
    [
        ("hh-harmless/pairs.jsonl", "preferences", 1800),
        ("llmbar/natural.jsonl", "preferences", 100),
        ("xstest/prompts.jsonl", "prompts", 450),
    ],
)
def test_public_files_are_read_whole(file: str, kind: Kind, rows: int) -> None:
    found = read(SHARED / file, kind, heldout=0.2, dev=0.1, skip_bad=True)
    assert len(found.rows) + len(found.problems) == rows and len(found.problems) < rows / 50
    assert kind == "prompts" or pair_kind(SHARED / file) == kind


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")
def test_a_column_of_a_list_is_mapped() -> None:
    found = read(SHARED / "vicuna/questions.jsonl", "prompts", heldout=0.2, dev=0.1, names={"prompt": "turns.0"})
    assert len(found.rows) == 80
