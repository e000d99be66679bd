"""Files that are whole or not there."""

from __future__ import annotations

import json
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


def test_json_is_ascii_and_hostile_text_comes_back(tmp_path):
    value = {"b": "NUL \x00 lone \ud800 \u202e", "a": [1, None, b"\x01\xff"]}
    artifacts.write_json(tmp_path / "x.json", value)
    raw = (tmp_path / "x.json").read_bytes()
    assert raw.isascii() and json.loads(raw) == {**value, "a": [1, None, "01ff"]}
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert (tmp_path / "x.json").read_bytes() == raw
    artifacts.write_text(tmp_path / "x.txt", "lone \ud800")
    assert (tmp_path / "x.txt").read_text() == "lone ?"


def a_checkpoint(root):
    (root / "tokenizer").mkdir(parents=True)
    (root / "model.safetensors").write_bytes(b"weights")
    (root / "tokenizer" / "vocab.json").write_text("{}")
    return root


def test_a_manifest_names_every_file_and_its_digest_is_that_of_the_files(tmp_path):
    one, same = a_checkpoint(tmp_path / "one"), a_checkpoint(tmp_path / "same")
    assert artifacts.manifest(one) == {
        "model.safetensors": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        "tokenizer/vocab.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    }
    assert artifacts.write_manifest(one) == artifacts.write_manifest(same) == artifacts.check_manifest(one)
    (same / "tokenizer" / "vocab.json").rename(same / "tokenizer" / "words.json")
    assert artifacts.write_manifest(same) != artifacts.check_manifest(one)


@pytest.mark.parametrize("damage", ["change", "lose", "add", "no manifest", "half a manifest", "another's digest"])
def test_a_folder_that_is_not_what_its_manifest_says_is_refused(tmp_path, damage):
    folder = a_checkpoint(tmp_path / "one")
    artifacts.write_manifest(folder)
    weights, manifest = folder / "model.safetensors", folder / artifacts.MANIFEST
    match damage:
        case "change":
            weights.write_bytes(b"weightz")
        case "lose":
            weights.unlink()
        case "add":
            (folder / "more.json").write_text("{}")
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:40])
        case _:
            said = json.loads(manifest.read_text())
            manifest.write_text(json.dumps(said | {"digest": "0" * 64}))
    with pytest.raises(UserError, match=r"manifest\.json"):
        artifacts.check_manifest(folder)


@pytest.mark.parametrize("name", ["training_args.bin", "pytorch_model.PT", "deep/state.pkl"])
def test_pickles_are_refused(tmp_path, name):
    folder = a_checkpoint(tmp_path / "one")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(UserError, match="may be a pickle"):
        artifacts.write_manifest(folder)


def test_links_are_refused(tmp_path):
    folder = a_checkpoint(tmp_path / "one")
    (folder / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="is a link"):
        artifacts.write_manifest(folder)


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


def test_each_run_has_a_folder_of_its_own(tmp_path):
    ours = artifacts.Artifacts(tmp_path / "precept")
    one, other = ours.folder(b"1" * 16), ours.folder(b"2" * 16)
    assert one.is_dir() and one == ours.folder(b"1" * 16) != other
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        artifacts.Artifacts(tmp_path / "file").folder(b"1" * 16)
