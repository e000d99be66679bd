"""Known pairs of every published shape, each of rows made by hand; and what is told of rows that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline.sources.known_pairs import FORMATS, KnownPair, found, read

WHY = (Message("user", "Why?"),)
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(tmp_path: Path, *rows: Any, name: str = "set.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_ours(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"prompt": "Why?", "better": "Because.", "worse": "No.", "principle": "honest", "tags": ["short"]},
        {"prompt": [{"role": "user", "content": "Why?"}], "better": "As it is.", "worse": "No."},
    )
    assert read(path) == [
        KnownPair(WHY, "Because.", "No.", "honest", ("short",), "set"),
        KnownPair(WHY, "As it is.", "No.", source="set"),
    ]


LLMBAR = {"input": "Why?", "output_1": "No.", "output_2": "Because.", "label": 2}
BIG_BENCH = {"input": "Why?", "target_scores": {"Because.": 1, "No.": 0}}
HHH_TABLE = {"input": "Why?", "targets": {"choices": ["No.", "Because."], "labels": [0, 1]}}
HH = {"chosen": "\n\nHuman: Why?\n\nAssistant: Because.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}
LABELLED = {"prompt": "Why?", "a": "No.", "b": "Because.", "label": "b"}
PANDALM = {
    "idx": 4, "motivation_app": "Search", "cmp_key": "x_y", "instruction": "Why?", "input": float("nan"),
    "response1": "No.", "response2": "Because.", "annotator1": 2, "annotator2": 2, "annotator3": 0,
}  # fmt: skip
REWARD_BENCH = {
    "id": "7", "prompt": "Why?", "chosen": ["Because."], "rejected": ["No."], "num_correct": 1, "num_incorrect": 1,
    "total_completions": 2, "models": ["x", "y"], "subset": "Factuality", "additional_metadata": {"valid": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "row"),
    [
        ("llmbar", LLMBAR),
        ("hhh", BIG_BENCH),
        ("hhh", HHH_TABLE),
        ("hh", HH),
        ("preferences", LABELLED),
        ("pandalm", PANDALM),
        ("rewardbench2", REWARD_BENCH),
    ],
)
def test_published_shapes(tmp_path: Path, format: str, row: dict[str, Any]) -> None:
    path = write(tmp_path, row)
    (pair,) = read(path)
    assert (pair.messages, pair.better, pair.worse) == (WHY, "Because.", "No.")
    assert read(path, format) == [pair]
    assert pair.tags == (("Factuality",) if format == "rewardbench2" else ())
    other = "llmbar" if format != "llmbar" else "pandalm"
    with pytest.raises(UserError, match=f"is not of the format '{other}'"):
        read(path, other)


def test_the_table_of_the_page(tmp_path: Path) -> None:
    section = (
        (Path(__file__).parents[3] / "docs" / "data.md").read_text().split("\n## Known pairs\n")[1].split("\n## ")[0]
    )
    rows = re.findall(r"^\| (`\w+`).*? \| `(\{.*\})` \| 1 \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n| ") - 1 and {name.strip("`") for name, _ in rows} == set(FORMATS)
    for name, row in rows:
        (pair,) = read(write(tmp_path, json.loads(row)), name.strip("`"))
        assert (pair.messages, pair.better, pair.worse) == (WHY, "Because.", "No.")


def test_big_bench_has_its_rows_in_a_file_of_other_keys(tmp_path: Path) -> None:
    task = {"name": "hhh", "keywords": ["alignment"], "metrics": ["multiple_choice_grade"], "examples": [BIG_BENCH]}
    assert [pair.better for pair in read(write(tmp_path, task, name="task.json"))] == ["Because."]


def test_a_dialogue_of_hhh_has_its_turns(tmp_path: Path) -> None:
    said = "Can you help?\n\nAssistant: With what?\n\nHuman: Why?"
    (pair,) = read(write(tmp_path, {"input": said, "target_scores": {"Because.": 1, "No.": 0}}))
    assert [turn.role for turn in pair.messages] == ["user", "assistant", "user"]
    assert pair.messages[-1].content == "Why?"


def test_annotated_pairs(tmp_path: Path) -> None:
    def comparison(pref: str | None, prompt: str = "Why?") -> dict[str, Any]:
        return {
            "id": "0a", "prompt": prompt, "response_a": {"text": "No.", "model": "x"},
            "response_b": {"text": "Because."}, "annotations": {"d1": {"pref": pref}, "p1": {"pref": "a"}},
        }  # fmt: skip

    file = {
        "metadata": {"version": "2.0", "default_annotator": "d1"},
        "annotators": {"d1": {"name": "x", "type": "human"}, "p1": {"description": "Be short", "type": "principle"}},
        "comparisons": [comparison("b"), comparison("text_b", "And?"), comparison(None, "How?")],
    }
    path = tmp_path / "annotated.json"
    path.write_text(json.dumps(file, indent=2))
    given = found(path)
    assert [(p.messages[0].content, p.better) for p in given.pairs] == [("Why?", "Because."), ("And?", "Because.")]
    assert len(given.ties) == 1 and "comparison 3: its default annotator prefers neither" in given.ties[0]
    del file["metadata"]["default_annotator"]  # type: ignore[attr-defined]
    path.write_text(json.dumps(file))
    assert len(read(path)) == 2  # the only annotator that is no principle


def test_several_correct_answers_make_few_pairs(tmp_path: Path) -> None:
    row = {"prompt": "A colour?", "chosen": ["Red", "Blue", "Green"], "rejected": ["Loud", "Wet"], "subset": "Ties"}
    pairs = read(write(tmp_path, row))
    assert [(p.better, p.worse) for p in pairs] == [("Red", "Loud"), ("Blue", "Wet"), ("Green", "Loud")]
    assert {tag for p in pairs for tag in p.tags} == {"Ties"}
    best_of_four = {"prompt": "Why?", "chosen": ["Because."], "rejected": ["No.", "Yes.", "Well."], "subset": "Math"}
    assert len(read(write(tmp_path, best_of_four))) == 3


def test_what_prefers_neither_is_counted(tmp_path: Path) -> None:
    tied = {**PANDALM, "annotator1": 0}  # 0, 2, 0
    split = {**PANDALM, "instruction": "And?", "annotator1": 1, "annotator3": 0}
    given = found(write(tmp_path, PANDALM, tied, split, {**LABELLED, "label": "tie"}))
    assert len(given.pairs) == 1 and len(given.ties) == 3
    both = found(write(tmp_path, LABELLED, {**LABELLED, "label": "a"}, {**LABELLED, "prompt": "And?"}, LABELLED))
    assert [pair.messages[0].content for pair in both.pairs] == ["And?"] and len(both.ties) == 1
    with pytest.raises(UserError, match="no pair whose better answer is known: 1 rows prefer neither"):
        read(write(tmp_path, tied))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Why?", "better": "Because."}, "'worse' is missing"),
        ({"prompt": "Why?", "better": "Because.", "worse": "Because."}, "the same text"),
        ({"better": "Because.", "worse": "No."}, "'prompt' is missing"),
        ({"prompt": "Why?"}, "'better' is missing"),
        ({**LLMBAR, "label": 3}, "'label' is 1 or 2"),
        ({**PANDALM, "annotator2": 5}, "1, 2 or 0"),
        ({"input": "Why?", "target_scores": {"Because.": "much"}}, "must be a number"),
        ({"input": "Why?", "targets": {"choices": ["a"], "labels": []}}, "as many 'labels'"),
        ({"prompt": "Why?", "better": "Because.", "worse": "No.", "principle": 3}, "the id of a principle"),
        ({"prompt": "Why?", "better": "Because.", "worse": "No.", "tags": 3}, "list of strings"),
        (["Why?"], "is an object"),
    ],
)
def test_bad_rows_are_told_by_line(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path, {"prompt": "Why?", "better": "Because.", "worse": "No."}, row)
    with pytest.raises(UserError) as error:
        read(path)
    assert f"{path}:2: " in str(error.value) and said in str(error.value) and "--skip-bad" in str(error.value)
    given = found(path, skip_bad=True)
    assert len(given.pairs) == 1 and len(given.problems) == 1


def test_columns_of_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "Why?", "good": "Because.", "bad": "No."})
    (pair,) = found(path, names={"better": "good", "worse": "bad"}).pairs
    assert (pair.better, pair.worse) == ("Because.", "No.")
    with pytest.raises(UserError, match=r"no row of .* has 'best'"):
        found(path, names={"better": "best"})
    with pytest.raises(UserError, match="no column of ours"):
        found(path, names={"finest": "good"})
    with pytest.raises(UserError, match="there is no format 'x'"):
        read(path, "x")
    assert "llmbar" in FORMATS


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_public_sets() -> None:
    natural = read(SHARED / "llmbar" / "natural.jsonl")
    assert len(natural) == 100 and natural[0].source == "natural"
    people = found(SHARED / "hh-harmless" / "pairs.jsonl")
    assert 1700 < len(people.pairs) <= 1800 and len(people.pairs[0].messages) > 1
