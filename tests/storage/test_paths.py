"""What lies in the home is stored by where in it, so that a copied folder works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from constitution.errors import UserError
from constitution.records import Checkpoint, make_id
from storage.store import Store

JOB = make_id("job")
NAME = f"best_of_n-{JOB.hex()[:16]}"
OUTSIDE = "/elsewhere/models/mine"


def a_checkpoint(path: Path | str) -> Checkpoint:
    return Checkpoint(JOB, "policy", "best_of_n", str(path), "ab" * 32, "base", "data")


@pytest.fixture
def home(tmp_path):
    (tmp_path / "runs" / "checkpoints" / NAME).mkdir(parents=True)
    return tmp_path / "runs"


def stored_paths(store):
    with store._read() as connection:
        return list(connection.execute(text("SELECT path FROM checkpoint ORDER BY path")).scalars())


def test_a_path_in_the_home_is_kept_relative_and_found_again(store_url, home, monkeypatch):
    with Store.open(store_url, home=home) as store:
        for inside in (f"checkpoints/{NAME}", "3f2a00112233/report.html", "datasets/x.jsonl", "checkpoints"):
            assert store.kept_path(home / inside) == inside
        for inside in (f"checkpoints/{NAME}", "3f2a00112233/report.html", "datasets/x.jsonl"):
            assert store.found_path(inside) == str(home / inside)  # there or not
        (home / "mine").mkdir()
        assert store.found_path(store.kept_path(home / "mine")) == str(home / "mine")
        assert store.kept_path(home / "deep" / ".." / "mine") == "mine"
        for other in (
            OUTSIDE,
            str(home),
            str(home.parent / "runs-2" / "x"),
            f"{home}/../x",
            "Qwen/Qwen3-8B",
            "base",
            "",
        ):
            assert store.kept_path(other) == other
        for other in (OUTSIDE, str(home), "Qwen/Qwen3-8B", "base", "", f"checkpoints/{NAME}x/../.."):
            assert store.found_path(other) in (other, str(home / other))
        assert store.found_path("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"  # a model of a server, and no file of ours
    monkeypatch.chdir(home.parent)
    with Store.open(store_url, home="runs") as store:  # as the settings say it
        assert store.found_path(f"checkpoints/{NAME}") == str(home / "checkpoints" / NAME)
    with Store.open(store_url) as store:
        assert store.kept_path(home / "mine") == str(home / "mine")
        assert store.found_path("mine") == "mine"


def test_a_home_that_is_reached_by_a_link_is_the_same_home(store_url, home, tmp_path):
    (tmp_path / "link").symlink_to(home)
    disk = tmp_path / "disk"
    shutil.move(home / "checkpoints", disk)
    (home / "checkpoints").symlink_to(disk)  # people keep large folders on another disk
    with Store.open(store_url, home=tmp_path / "link") as store:
        for path in (home / "checkpoints" / NAME, tmp_path / "link" / "checkpoints" / NAME):
            assert store.found_path(store.kept_path(path)) == str(home / "checkpoints" / NAME)


def test_a_checkpoint_is_found_by_every_way_to_write_its_path(store_url, home, monkeypatch):
    monkeypatch.chdir(home.parent)
    folder = home / "checkpoints" / NAME
    with Store.open(store_url, home=home) as store:
        store.add_checkpoint(a_checkpoint(folder))
        assert stored_paths(store) == [f'"checkpoints/{NAME}"']
        (home / "promoted").symlink_to(folder)
        ways = [folder, f"runs/checkpoints/{NAME}", f"./runs/checkpoints/{NAME}", f"checkpoints/{NAME}", NAME]
        ways += [f"/where/it/was/checkpoints/{NAME}", "runs/promoted"]
        for way in ways:
            assert store.checkpoint(str(way)).path == str(folder)
        for way in (f"/where/it/was/{NAME}", f"x{NAME}", f"checkpoints/{NAME}/manifest.json", "runs"):
            with pytest.raises(UserError, match="no checkpoint"):
                store.checkpoint(way)
        assert store.checkpoints() == [a_checkpoint(folder)]
        moved = a_checkpoint(OUTSIDE)
        store.add_checkpoint(moved)
        assert store.checkpoint("mine") == moved == store.checkpoint(OUTSIDE)


def test_a_copied_folder_with_its_store_works(tmp_path, home):
    with Store.open(home / "precept.db", home=home) as store:
        store.add_checkpoint(a_checkpoint(home / "checkpoints" / NAME))
        store.promote(store.checkpoint(NAME), "ana", "better", "key")
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    shutil.rmtree(home)
    with Store.open(copy / "precept.db", home=copy) as store:
        promoted = store.promoted()
        assert promoted is not None and promoted.path == str(copy / "checkpoints" / NAME)
        assert Path(promoted.path).is_dir()
        assert store.checkpoint("promoted") == promoted
