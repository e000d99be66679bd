"""kill -9 at random moments: the rerun ends with the clean run's slots, none twice, byte-equal."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.kills import prepare, run, trial


def test_a_killed_run_goes_on_and_ends_like_a_clean_one(tmp_path: Path) -> None:
    prepare(tmp_path / "clean")
    clean = run(tmp_path / "clean", [])
    assert len(clean.contents["generation"]) > 150 and len(clean.contents["verdict"]) > 200
    assert clean.twice == 0 and clean.orphans == 0
    rng = random.Random(7)
    assert trial(tmp_path / "killed", [rng.uniform(0.0, 1.0) for _ in range(3)], clean) == []


def test_a_finished_run_asks_nothing_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    first = run(tmp_path, [])
    again = run(tmp_path, [])
    assert again.asked == first.asked
