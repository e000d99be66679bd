"""Prompts by path, by name and by table; and what every source that is found has to keep."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from constitution.errors import UserError
from constitution.records import Message, Messages, Prompt, Split, split_of
from pipeline import sources
from pipeline.sources import Splits
from pipeline.sources.source import sample

SPLITS = Splits(heldout=0.3, dev=0.2)
ASKED = [f"How do I bake {n} loaves?" for n in range(40)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows: list[Any] = [{"prompt": text} for text in ASKED]
    rows += [{"prompt": ASKED[0]}, {"prompt": "Sing.", "split": "dev", "tags": ["harmless"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_path_is_the_file_source_and_a_split_is_given_once_where_the_file_does_not_say(file: Path) -> None:
    found = sources.read(str(file), SPLITS)
    assert found == sources.read({"source": "file", "path": str(file)}, SPLITS)
    assert [p.messages[0].content for p in found] == [*ASKED, "Sing."]
    assert [p.split for p in found[:-1]] == [split_of(p.messages, 0.3, 0.2) for p in found[:-1]]
    assert found[-1].split == "dev" and {p.split for p in found} == set(get_args(Split))
    assert {p.split for p in sources.read(str(file), Splits(1, 0))[:-1]} == {"heldout"}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("", "name a file"),
        ("no_such.jsonl", "there is no file no_such.jsonl"),
        ("folder/no_such", "there is no file folder/no_such"),
        ("sandbxo", r"there is no prompt source 'sandbxo'; there are .*file"),
        ("file", "a file has its path"),
        ({"path": "no_such.csv"}, "there is no file no_such.csv"),
        ({"topic": "x"}, "names its source"),
        ({"path": "x.jsonl", "map": {"promt": "x"}}, "'promt' is no column of ours"),
        ({"source": "file", "path": "x.jsonl", "skip": True}, "a file has its path"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(where: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sources.read(where, SPLITS)


def test_a_source_of_an_installed_package_is_found_by_name(install: Callable[..., None]) -> None:
    text = """
        from constitution.records import Message, Prompt

        def prompts(options, splits):
            made = [(Message("user", f"{options['topic']} {n}"),) for n in (1, 2, 1)]
            return [Prompt(messages, options.get("split") or splits.of(messages), "red team") for messages in made]
        """
    install("letters_prompts", {"precept.sources": {"letters": "letters_source"}}, {"letters_source": text})
    assert "letters" in sources.names()
    found = sources.read({"source": "letters", "topic": "letter"}, SPLITS)
    assert [p.messages[0].content for p in found] == ["letter 1", "letter 2"]
    with pytest.raises(UserError, match="split 'test'"):
        sources.read({"source": "letters", "topic": "letter", "split": "test"}, SPLITS)


def test_a_name_is_a_source_even_beside_a_file_or_a_folder_of_that_name(
    ours: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sandbox").write_text("not a row")
    assert {p.source for p in sources.read("sandbox", SPLITS)} == {"sandbox"}
    (tmp_path / "prompts").write_text("not a row")
    with pytest.raises(UserError, match=r"prompts: give a \.jsonl, .*\.parquet file"):
        sources.read("prompts", SPLITS)


def test_a_source_that_gives_nothing_is_refused(install: Callable[..., None]) -> None:
    install("no_prompts", {"precept.sources": {"none": "no_source"}}, {"no_source": "def prompts(o, s): return []"})
    with pytest.raises(UserError, match="gave no prompts"):
        sources.read("none", SPLITS)


def made_up(requests: Sequence[Messages], role: str, seed: int) -> list[str | None]:
    """A model whose every prompt is of words of its own."""
    return [f"Can you tell me about {' '.join(f'{w}{seed}x{n}' for w in 'abcdef')}?" for n, _ in enumerate(requests)]


def test_every_source_keeps_its_contract(ours: None, file: Path) -> None:
    """By what it does. A source that cannot go without options has some here."""
    options: dict[str, dict[str, Any]] = {"file": {"path": str(file)}}
    xstest = file.with_name("xstest.jsonl")
    rows = [{"prompt": f"How do I kill process {n}?", "label": "safe", "type": "homonyms"} for n in range(40)]
    xstest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options["public"] = {"set": "xstest", "path": str(xstest)}
    options["red_team"] = {"count": 24}
    assert {"file", "sandbox"} <= set(sources.names())
    for name in sources.names():
        source, own = sources.load(name), options.get(name, {})
        parameters = list(inspect.signature(source.prompts).parameters)
        assert parameters in (["options", "splits"], ["options", "splits", "generate"]), name
        found = sources.read({"source": name, **own}, SPLITS, made_up)
        assert found == sources.read({"source": name, **own}, SPLITS, made_up), name
        for prompt in found:
            assert isinstance(prompt, Prompt) and prompt.split in get_args(Split), name
            assert prompt.messages[-1].role == "user" and all(isinstance(m, Message) for m in prompt.messages), name
        assert {"train", "heldout"} <= {prompt.split for prompt in found}, name
        more = (made_up,) if "generate" in parameters else ()
        with pytest.raises(UserError):
            source.prompts({**own, "no such option": 1}, SPLITS, *more)


def test_a_sample_of_a_sorted_file_is_a_picture_of_it() -> None:
    kinds = [("harmless",)] * 300 + [("harmful",)] * 300
    prompts = [Prompt((Message("user", f"Question {n}"),), "heldout", tags=tags) for n, tags in enumerate(kinds)]
    some = sample(prompts, 120)
    assert len(some) == 120 and some == [p for p in prompts if p in some]
    assert 40 <= sum(p.tags == ("harmless",) for p in some) <= 80
    assert {p.id for p in sample(prompts, 60)} < {p.id for p in some} and sample(prompts, 600) == prompts


def test_a_public_set_without_its_file_is_told_how_it_is_named() -> None:
    from pipeline import suites
    from pipeline.sources import known_pairs

    for name in ("xstest", "or-bench"):
        with pytest.raises(UserError, match=f'source = "public", set = "{name}", path = "FILE"'):
            sources.load(name)
        with pytest.raises(UserError, match=f"as {name}:FILE"):
            suites.load(name)
    with pytest.raises(UserError, match="xstest: names no file: xstest:FILE"):
        suites.load("xstest:")
    with pytest.raises(UserError, match="--pairs FILE --format llmbar"):
        known_pairs.read("llmbar")
