"""When a run is stopped, and what its curve looks like after a resume."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipeline.trainers.progress import WINDOW, Interruption, ProgressFile, read
from pipeline.trainers.trainer import Job, TrainingStopped


@pytest.fixture
def progress(tmp_path: Path) -> ProgressFile:
    job = Job(
        id="1", method="sft", model="m", out=str(tmp_path / "o"), dataset="d", arguments={"divergence_factor": 3.0}
    )
    progress = ProgressFile(job)
    progress.start(0)
    return progress


def feed(progress: ProgressFile, losses: list[float], start: int = 1) -> None:
    for step, loss in enumerate(losses, start=start):
        progress.step(step, 100, {"loss": loss})


def test_every_step_is_a_line(progress: ProgressFile) -> None:
    feed(progress, [2.0, 1.5])
    lines = [(line["step"], line["total"], line["loss"]) for line in read(progress.path)]
    assert lines == [(1, 100, 2.0), (2, 100, 1.5)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_number_that_is_not_finite_stops_the_run(progress: ProgressFile, bad: float, name: str) -> None:
    feed(progress, [1.0, 1.0, 1.0])
    with pytest.raises(TrainingStopped, match=f"step 4: {name} is") as stop:
        progress.step(4, 100, {"loss": 1.0, name: bad})
    assert stop.value.good_steps == 2  # the weights after step 3 are the ones that gave this number
    assert read(progress.path)[-1][name] is None


def test_a_loss_that_keeps_rising_stops_the_run_and_a_spike_does_not(progress: ProgressFile) -> None:
    feed(progress, [1.0] * WINDOW + [9.0] + [1.0] * WINDOW)
    with pytest.raises(TrainingStopped, match="the loss diverges") as stop:
        feed(progress, [9.0] * WINDOW, start=2 * WINDOW + 2)
    assert stop.value.good_steps < 2 * WINDOW + 2


def test_a_loss_near_zero_may_wobble(progress: ProgressFile) -> None:
    feed(progress, [0.01] * WINDOW + [0.2] * WINDOW)


def test_after_a_resume_the_lost_lines_are_gone_and_the_old_losses_still_count(progress: ProgressFile) -> None:
    feed(progress, [1.0] * WINDOW + [2.0] * 3)
    progress.start(WINDOW)
    assert [line["step"] for line in read(progress.path)] == list(range(1, WINDOW + 1))
    with pytest.raises(TrainingStopped, match="diverges"):
        feed(progress, [8.0] * WINDOW, start=WINDOW + 1)


def test_a_line_cut_short_by_a_crash_is_left_out(progress: ProgressFile) -> None:
    feed(progress, [1.0, 1.0])
    with progress.path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert [line["step"] for line in read(progress.path)] == [1, 2]


def test_ctrl_c_waits_for_the_step_once_and_not_twice() -> None:
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt):
        interruption()  # nothing is being trained
    interruption.training = True
    interruption()
    assert interruption.requested
    with pytest.raises(KeyboardInterrupt):
        interruption()
