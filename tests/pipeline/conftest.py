"""Verdicts as arrays, as `storage` hands them to `pipeline.metrics.voting`; and what installed packages offer."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitution.records import PROBABILITY, Id, LabelRule, make_id
from pipeline.metrics import voting
from pipeline.metrics.voting import Votes
from tests.pipeline import packages

ROOT = Path(__file__).parents[2]
Points = Mapping[str, Mapping[str, str]]


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
def install(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Installs a package for this test: its entry points by group, and its modules by name."""
    with ExitStack() as until_the_end:

        def add(name: str, points: Points, modules: Mapping[str, str] | None = None) -> None:
            site = packages.write_package(tmp_path / name, name, points, modules or {})
            until_the_end.enter_context(packages.installed(site))

        yield add


@pytest.fixture
def ours(install: Callable[..., None]) -> None:
    """precept as it is installed: what pyproject.toml offers is found, though the environment may be from before."""
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    missing = {
        group: {name: value for name, value in points.items() if name not in entry_points(group=group).names}
        for group, points in written.items()
    }
    install("precept_offers", missing)
