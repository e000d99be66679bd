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
