"""Twenty people review one run at once, in threads and in processes: nobody is shown what another is shown, no answer
is lost, and what a browser sends twice is kept once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from storage.store import Store
from tests.service.at_once import Told, together
from tests.service.reviewed_run import at_random, build

ROOT = Path(__file__).parents[2]
PEOPLE = [f"reviewer{n}" for n in range(20)]
EACH = 6


@pytest.mark.parametrize("processes", [1, 4])
def test_twenty_reviewers_at_once(store_url: str, tmp_path: Path, processes: int) -> None:
    held = tmp_path / "held"
    held.mkdir()
    with Store.open(store_url) as store:
        build(store, at_random(200))
        told = _work(store_url, held, processes)
        kept = store.spot_checks()
        assert len(told) == len(kept) == len(PEOPLE) * EACH
        assert Counter(who for who, *_ in told) == dict.fromkeys(PEOPLE, EACH)
        assert {(who, pair, event) for who, pair, _, event in told} == {
            (c.reviewer, c.comparison.hex(), c.event) for c in kept
        }
        assert len(store.events("spot_check")) == len(kept)  # of 60 that were sent twice, each is one event


def _work(url: str, held: Path, processes: int) -> list[Told]:
    if processes == 1:
        return together(url, PEOPLE, str(held), EACH)
    command = [sys.executable, "-m", "tests.service.at_once", url]
    running = [
        subprocess.Popen(
            [*command, " ".join(PEOPLE[n::processes]), str(held), str(EACH)], cwd=ROOT, stdout=-1, text=True
        )
        for n in range(processes)
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * processes
    return [tuple(told) for out in said for told in json.loads(out)]
