"""Verdicts as arrays, as `storage` hands them to `pipeline.metrics.voting`; and what installed packages offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitution.records import PROBABILITY, Id, LabelRule, make_id
from pipeline.metrics import voting
from pipeline.metrics.voting import Votes
from tests.pipeline import offering


@dataclass(frozen=True)
class Arrays:
    comparisons: Sequence[Id]
    questions: Sequence[Id]
    p1: np.ndarray
    p2: np.ndarray
    mass: np.ndarray
    present: np.ndarray

    @property
    def s(self) -> np.ndarray:
        return self.p1.astype(np.int64) + self.p2 - PROBABILITY


@pytest.fixture
def arrays() -> Callable[..., Arrays]:
    """From probabilities [n, k] that the first answer is the better, in both orders; NaN where there is no verdict."""

    def build(p1: Any, p2: Any, mass: Any = 1.0) -> Arrays:
        one, other = (np.atleast_2d(np.asarray(p, dtype=float)) for p in (p1, p2))
        n, k = one.shape
        present = np.isfinite(one)
        numbers = [np.where(present, np.nan_to_num(p) * PROBABILITY, 0).round().astype(np.int32) for p in (one, other)]
        masses = np.broadcast_to(np.asarray(mass, dtype=float) * PROBABILITY, (n, k)).round().astype(np.int32)
        comparisons = tuple(make_id("comparison", number=number) for number in range(n))
        questions = tuple(make_id("question", number=number) for number in range(k))
        return Arrays(comparisons, questions, *numbers, masses, present)

    return build


@pytest.fixture
def votes(arrays: Callable[..., Arrays]) -> Callable[..., Votes]:
    """The same as votes. `weights`: by principle, 1.0 is 1000; `shared`: principles that ask another's words."""

    def build(
        p1: Any,
        p2: Any,
        weights: dict[str, float],
        mass: Any = 1.0,
        rule: LabelRule | None = None,
        shared: dict[str, str] | None = None,
    ) -> Votes:
        evidence = arrays(p1, p2, mass)
        own = iter(evidence.questions)
        questions: dict[str, Id] = {}
        for name in weights:
            questions[name] = questions[shared[name]] if shared and name in shared else next(own)
        whole = {name: round(weight * 1000) for name, weight in weights.items()}
        return voting.votes(evidence, questions, whole, rule or LabelRule())

    return build


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package for this test: its entry points, and its modules by file name."""

    def install(name: str, groups: offering.Groups, modules: Mapping[str, str] | None = None) -> None:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.syspath_prepend(offering.package(folder, name, groups, modules))

    return install


@pytest.fixture
def ours(installed: Callable[..., None]) -> None:
    """precept as it is installed: what pyproject.toml offers is found."""
    installed("precept_offers", offering.ours())
