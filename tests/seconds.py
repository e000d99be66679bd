"""How long each test took when it last ran, in pytest's cache: `tests/touched.py` fits its minute by it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

KEY = "precept/seconds"


class Seconds:
    """A plug-in of the process that the tests report to. Tests marked slow are left out: `make check` skips them."""

    def __init__(self, cache: pytest.Cache) -> None:
        self._cache = cache
        self._took: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "slow" not in report.keywords:
            self._took[report.nodeid] += report.duration  # its setup, call and teardown come one by one

    def pytest_sessionfinish(self) -> None:
        known = self._cache.get(KEY, {})
        self._cache.set(KEY, known | {test: round(took, 3) for test, took in self._took.items()})


def by_file(root: Path) -> dict[str, float]:
    """Seconds of each test file whose tests have run here before; where none have, nothing."""
    try:
        known = json.loads((root / ".pytest_cache" / "v" / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    files: defaultdict[str, float] = defaultdict(float)
    for test, took in known.items():
        files[test.partition("::")[0]] += took
    return dict(files)
