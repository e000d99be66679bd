"""What is said of a run that is finished: what it did not measure, because it was not there yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.work import work as module
from service.work.work import Work


@pytest.mark.parametrize(
    ("measured", "named", "said"),
    [
        ({"style": {}, "win_rate": {}}, None, ["the suite says_no was not there when this run finished", '"says_no"]']),
        ({"style": {}, "win_rate": {}, "says_no": {}}, None, []),
        ({"style": {}}, ["style"], []),  # the settings name what is measured, and so does the run's id
        (None, None, []),  # a flow that measures nothing
    ],
)
def test_a_suite_that_was_installed_since_is_told_of(
    measured: Any, named: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.suites, "names", lambda: ["says_no", "style", "win_rate"])
    told: list[str] = []
    result = {"calls": {"generated": 3, "chosen": 4}, **({} if measured is None else {"suites": measured})}
    work: Any = SimpleNamespace(
        run=SimpleNamespace(status="finished", result=result),
        settings=SimpleNamespace(evaluate=SimpleNamespace(suites=named)),
        log=told.append,
    )
    work._say_what_is_not_measured = lambda: Work._say_what_is_not_measured(work)
    found = Work.finished.fget(work)  # type: ignore[attr-defined]
    assert found["calls"] == {"generated": 0, "chosen": 0, "reused": 7}
    assert len(told) == bool(said) and all(words in told[0] for words in said)
