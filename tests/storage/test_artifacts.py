"""Files that are whole or not there."""

from __future__ import annotations

import resource
import stat
import threading
from contextlib import contextmanager

import pytest

from constitution.errors import UserError
from storage import artifacts


@contextmanager
def small_disk():
    """No file of this process may grow beyond 4 kB: the write itself fails, as it does when the disk is full. Around
    the write alone, or the test runner's own output would meet the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "report.html"
    artifacts.write_text(path, "old")
    with small_disk(), pytest.raises(UserError, match=r"no room to write .*report.html.*make room"):
        artifacts.write_text(path, "new" * 10_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file"
    sizes = [10, 200_000]
    artifacts.write_bytes(path, b"0" * sizes[0])
    seen = set()
    done = threading.Event()

    def read():
        while not done.is_set():
            seen.add(len(path.read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        artifacts.write_bytes(path, b"0" * sizes[number % 2])
    done.set()
    reader.join()
    assert seen <= set(sizes)


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    artifacts.write_text(tmp_path / "deep" / "ours", "text")
    assert stat.S_IMODE((tmp_path / "deep" / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_text_that_utf8_does_not_have_is_written_all_the_same(tmp_path):
    artifacts.write_text(tmp_path / "x.txt", "lone \ud800")
    assert (tmp_path / "x.txt").read_text() == "lone ?"


def test_the_pointer_is_never_missing_while_it_moves(tmp_path):
    folders = [tmp_path / "models" / name for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    link = tmp_path / "serve" / "promoted"
    artifacts.point(link, folders[0])
    assert link.resolve() == folders[0]
    assert not link.readlink().is_absolute()  # the tree may be moved as a whole
    seen = set()
    done = threading.Event()

    def watch():
        while not done.is_set():
            seen.add(str(link.readlink()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(100):
        artifacts.point(link, folders[number % 2])
    done.set()
    watcher.join()
    assert seen <= {"../models/a", "../models/b"}
    assert link.resolve() == folders[1]
    assert list(link.parent.iterdir()) == [link]


def test_a_real_folder_is_not_replaced_by_the_pointer(tmp_path):
    (tmp_path / "promoted").mkdir()
    with pytest.raises(UserError, match="not a link"):
        artifacts.point(tmp_path / "promoted", tmp_path)
