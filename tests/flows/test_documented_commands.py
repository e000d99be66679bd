"""The pages for those who edit the constitution and those who retrain: what they say to type is typed, in order."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli import main
from constitution import loading
from storage.store import Store

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str, until: str = "") -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block, up to a heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    yield from FENCE.findall(text.partition(until)[0] if until else text)


@pytest.fixture
def workplace(tmp_path: Path, loop: Any, monkeypatch: pytest.MonkeyPatch, plain_flows: None) -> Path:
    """A folder of a user who has run the loop once: settings, principles, store."""
    home = tmp_path / "home"
    shutil.copytree(loop.home, home, symlinks=True)
    settings = (home / "precept.toml").read_text().replace(str(loop.home), str(home))
    settings = re.sub(r'constitution = ".*"', 'constitution = "principles.yaml"', settings)
    (home / "precept.toml").write_text(settings)
    shutil.copy(ROOT / "principles.yaml", home / "principles.yaml")
    monkeypatch.chdir(home)
    return home


def type_in(text: str) -> int:
    """Type a block's commands; each has to succeed. Returns how many there were."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    commands = [words for words in lines if words]
    for words in commands:
        assert words[0] == "precept", words
        assert main.run(words[1:]) == 0, shlex.join(words)
    return len(commands)


def add_principle(home: Path, text: str) -> None:
    file = home / "principles.yaml"
    file.write_text(file.read_text().rstrip() + "\n\n" + text)


@pytest.mark.slow
def test_the_page_of_the_constitution(workplace: Path) -> None:
    typed = 0
    for language, text in blocks("constitution.md"):
        if language == "yaml" and text.startswith("  - id: inviting"):
            add_principle(workplace, text)
        elif not language:
            typed += type_in(text)
    assert typed >= 20
    with Store.open(workplace / "precept.db") as store:
        past = store.amendments()
    assert [a.version == past[0].version for a in past] == [True, False, True]  # added, and restored
    assert loading.load(workplace / "principles.yaml").version == past[0].version
    assert (workplace / "report.xml").is_file() and (workplace / "lineage.svg").is_file()


@pytest.mark.slow
def test_the_page_of_those_who_retrain(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inviting = next(text for language, text in blocks("constitution.md") if text.startswith("  - id: inviting"))
    add_principle(workplace, inviting)
    assert main.run(["constitution", "amend", "principles.yaml", "--ratify", "-m", "people come back"]) == 0
    for language, text in blocks("train.md", until="## Without an amendment"):
        if not language:
            type_in(text)
    said = capsys.readouterr().out
    assert "inviting" in said and "added" in said
    with Store.open(workplace / "precept.db") as store:
        runs = [run for run in store.runs() if run.kind == "retrain"]
        assert len(runs) == 2 and all(run.status == "finished" for run in runs)
        assert {run.constitution for run in runs} == {store.ratified().version}  # type: ignore[union-attr]
        assert (
            runs[0].result["calls"]["generated"] + runs[0].result["calls"]["chosen"] == 0
        )  # the other gate asks nothing
