"""What people and models wrote is readable by its owner alone, whatever the umask: the store, and the home folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import Store


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("late", [False, True])
def test_a_new_store_and_its_home_are_its_owners_alone(tmp_path: Path, late: bool) -> None:
    file, home = tmp_path / "deep" / "runs" / "precept.db", tmp_path / "elsewhere" / "home"
    with Store.open(file, home=home, late=late) as store:
        assert file.exists() != late
        store.put_document("note", "n", {"text": "hello"})
        made = [file, *file.parent.glob("precept.db-*")]
        assert len(made) >= 2  # the write-ahead log is one
        assert [mode(path) for path in made] == [0o600] * len(made)
        assert [mode(path) for path in (file.parent, file.parent.parent, home, home.parent)] == [0o700] * 4
    with Store.open(file, home=home) as store:
        assert store.documents("note")


def test_what_was_there_before_stays_as_its_owner_set_it(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir(mode=0o750)
    runs.chmod(0o750)
    file = runs / "precept.db"
    file.touch(mode=0o640)
    file.chmod(0o640)
    with Store.open(file, home=runs):
        assert (mode(runs), mode(file)) == (0o750, 0o640)
