"""Progress on standard error, where there is no terminal."""

from __future__ import annotations

from io import StringIO

import pytest

from cli import progress
from cli.progress import Reporter


@pytest.mark.parametrize("quiet", [True, False])
def test_a_slow_stage_tells_lines_unless_it_is_to_be_quiet(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    out = StringIO()
    report = Reporter(quiet, out)
    report.say("begun")
    with report.stage("answers", 2) as stage:
        stage.advance()
        stage.reach(2, 3, "a note")
    told = out.getvalue()
    assert told == "" if quiet else told.startswith("begun\n  answers: 1/2") and "2/3" in told


def test_the_last_line_of_a_stage_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", -1.0)
    out = StringIO()
    with Reporter(False, out).stage("answers", 2) as stage:
        stage.advance()
        stage.advance()
    assert [line.split(" in ")[0] for line in out.getvalue().splitlines()] == ["  answers: 1/2", "  answers: 2/2"]


@pytest.mark.parametrize(
    ("done", "total", "spent", "said"),
    [
        (0, 40, 5.0, "judging: 0/40 in 5.0 s"),
        (3, 40, 106.4, "judging: 3/40 in 1m 46s (35.5 s each, 21m 52s left)"),
        (1, 2, 4000, "judging: 1/2 in 1h 06m (1h 06m each, 1h 06m left)"),
        (15, 30, 10.0, "judging: 15/30 in 10.0 s (1.5/s, 10.0 s left)"),
        (900, 900, 3.0, "judging: 900/900 in 3.0 s (300/s)"),
    ],
)
def test_a_pace_is_told_in_a_unit_that_says_something(
    done: int, total: int, spent: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = progress.Stage("judging", total, StringIO(), None)
    stage.done = done
    monkeypatch.setattr("time.monotonic", lambda: stage._started + spent)
    assert stage._line() == said
