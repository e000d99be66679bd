"""A store that the code before the rebuilding made: it is migrated when it is opened, and its runs are gone on with."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows import discovery
from storage.store import Store
from tests.flows.conftest import without_prefect

BEFORE = Path(__file__).parent / "before"
FINISHED, STOPPED = "18ec334738a4a2c351e7d1edeb9564e6", "b0270760a63921deb3fa99be91343cea"  # as they were then


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(BEFORE, tmp_path / "copied")
    (folder / "precept.db").write_bytes(gzip.decompress((folder / "precept.db.gz").read_bytes()))
    monkeypatch.chdir(folder)
    return folder


def revise(**flags: Any) -> dict[str, Any]:
    with without_prefect():
        result: dict[str, Any] = discovery.load("revise")("precept.toml", flags)
    return result


def test_a_finished_run_is_found_and_asks_nothing(place: Path) -> None:
    found = revise()
    assert found["run"] == FINISHED
    assert found["calls"] == {"generated": 0, "chosen": 0, "reused": 40 + 72 + 2}
    assert (found["better"], found["judged"], found["revisions"]) == (2, 8, {"chains": 8, "kept": 16})


def test_a_stopped_run_goes_on_where_it_was(place: Path) -> None:
    """Its 40 texts are stored; what is missing are its verdicts."""
    found = revise(seed=1)
    assert found["run"] == STOPPED
    assert found["calls"]["generated"] == 0 < found["calls"]["chosen"]
    with Store.open("sqlite:///precept.db", home=place) as store:
        assert {run.id.hex(): run.status for run in store.runs()} == {FINISHED: "finished", STOPPED: "finished"}
        key = json.loads(store.run(STOPPED).key)
    assert key["recipe"] == 2 and key["settings"]["seed"] == 1 and "models" not in key


def test_another_seed_is_another_run(place: Path) -> None:
    assert revise(seed=2)["run"] not in (FINISHED, STOPPED)
