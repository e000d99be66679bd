"""A file that somebody dropped in and that is broken is one message that names it, whatever is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from constitution.errors import UserError
from pipeline import plugins

BROKEN = {
    "does not parse": ("def build(:\n", "SyntaxError"),
    "raises": ("raise RuntimeError('no luck')\ndef build(): ...\n", "RuntimeError: no luck"),
    "imports what is not there": ("import not_there\ndef build(): ...\n", "not_there"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `dropped`, as the folder of a kind of plug-in."""
    package = tmp_path / "dropped"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "good.py").write_text("def build(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "__file__", str(tmp_path / "pipeline" / "plugins.py"))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "dropped"]:
        del sys.modules[name]


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_one_message_and_in_nobodys_way(folder: Path, what: str) -> None:
    text, told = BROKEN[what]
    (folder / "bad.py").write_text(text)
    assert plugins.names("dropped", "build") == ["bad", "good"]
    assert plugins.load("dropped", "build", "good", "thing").__name__ == "dropped.good"
    with pytest.raises(UserError, match=r"the thing 'bad' \(dropped/bad.py\) cannot be imported") as error:
        plugins.load("dropped", "build", "bad", "thing")
    assert told in str(error.value)


def test_a_file_in_another_encoding_is_one_message_too(folder: Path) -> None:
    (folder / "bad.py").write_bytes("NAME = '\xe9'\ndef build(): ...\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"dropped/bad\.py"):
        plugins.load("dropped", "build", "bad", "thing")


def test_a_dash_in_a_name_counts_as_an_underscore(folder: Path) -> None:
    (folder / "best_of.py").write_text("def build(): ...\n")
    assert plugins.load("dropped", "build", "best-of", "thing").__name__ == "dropped.best_of"
