"""The whole loop on the sandbox, as small as it can be and still train: `improve` itself, its steps called as plain
functions, so that no Prefect server is needed."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline.engines
from flows import discovery, rounds, steps
from pipeline import trainers
from sandbox.prompts import prompts

ROOT = Path(__file__).parents[2]
SETTINGS = """
store = "sqlite:///{home}/precept.db"
home = "{home}"
constitution = "{root}/principles.yaml"
prompts = "{home}/prompts.jsonl"
oracle = "sandbox"
threads = 1
[policy]
model = "sandbox:policy"
max_tokens = 64
[judge]
model = "sandbox:policy"
[evaluator]
model = "sandbox:evaluator"
[revise]
rounds = 1
[compare]
samples = 2
pairs = 1
[sft.arguments]
learning_rate = 1e-3
max_steps = 4
[reward.arguments]
learning_rate = 1e-3
max_steps = 4
[optimise.arguments]
learning_rate = 3e-4
max_steps = 4
[label]
min_margin = 0.9
[gate]  # a few steps are not meant to win
min_prompts = 1
min_win_rate = 0.0
min_length_controlled = "none"
max_refusal_increase = 1.0
max_length_ratio = 10.0
"""
WRITTEN = ("created", "finished", "at", "path")  # columns that say when and where, not what


@dataclass(frozen=True)
class Loop:
    """A run of `improve`: its folder and what it returned."""

    home: Path
    result: dict[str, Any]
    held: tuple[int, ...] = ()  # models that its engines had in memory when each training began

    def rows(self, table: str, leave_out: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        """A table's rows, sorted, without the columns that tell when and where."""
        with sqlite3.connect(f"file:{self.home}/precept.db?mode=ro", uri=True) as database:
            names = [name for _, name, *_ in database.execute(f"pragma table_info({table})")]
            kept = ", ".join(name for name in names if name not in (*WRITTEN, *leave_out))
            return sorted(database.execute(f"select {kept} from {table}"), key=repr)

    def document(self, kind: str) -> dict[str, Any]:
        with sqlite3.connect(f"file:{self.home}/precept.db?mode=ro", uri=True) as database:
            (payload,) = database.execute("select payload from document where kind = ?", (kind,)).fetchone()
        found: dict[str, Any] = json.loads(payload)
        return found

    def datasets(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.home / "datasets").glob("*.jsonl")}


def prepare(home: Path, dev: int = 0) -> None:
    """A folder with settings, 40 prompts to train on, 24 to measure on, and some to choose by."""
    rows = [
        {"prompt": [{"role": m.role, "content": m.content} for m in p.messages], "split": p.split, "tags": p.tags}
        for p in prompts(train=40, dev=dev, heldout=24)
    ]
    home.mkdir(parents=True, exist_ok=True)
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "precept.toml").write_text(SETTINGS.format(home=home, root=ROOT))


@contextmanager
def without_prefect() -> Iterator[None]:
    """The flows as plain functions: what they say is run as it stands, without a server to report to."""
    plain = SimpleNamespace(**{name: getattr(found, "fn", found) for name, found in vars(steps).items()})
    flows = [importlib.import_module(f"flows.{name}") for name in discovery._own()]
    with pytest.MonkeyPatch.context() as patch:
        for flow in (*flows, rounds):
            if getattr(flow, "steps", None) is steps:
                patch.setattr(flow, "steps", plain)
        patch.setattr(discovery, "load", lambda name: getattr(importlib.import_module(f"flows.{name}"), name).fn)
        yield


def improve(home: Path, flow: str = "improve", **flags: Any) -> Loop:
    """`flows.improve`, or another flow, as it stands, on the settings of a folder; `flags` have `__` for the dot."""
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    with without_prefect():
        return Loop(home, discovery.load(flow)(str(home / "precept.toml"), dotted))


@pytest.fixture(scope="session")
def run_improve() -> Callable[..., Loop]:
    """Prepare a folder, or go on in one that is there, and run the loop: `run_improve(home, limits__max_calls=9)`."""

    def run(home: Path, flow: str = "improve", dev: int = 0, **flags: Any) -> Loop:
        if not home.exists():
            prepare(home, dev)
        return improve(home, flow, **flags)

    return run


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory, run_improve: Callable[..., Loop]) -> Loop:
    """One small run of the whole loop; only to be looked at."""
    engines: list[Any] = []
    held: list[int] = []
    build, train = pipeline.engines.build, trainers.Worker.run

    def built(settings: Any) -> Any:
        engines.append(build(settings))
        return engines[-1]

    def trained(*given: Any, **named: Any) -> Any:
        held.append(sum(engine._held is not None for engine in engines))
        return train(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.engines, "build", built)
        patch.setattr(trainers.Worker, "run", trained)
        done = run_improve(tmp_path_factory.mktemp("loop") / "home")
    return replace(done, held=tuple(held))


@pytest.fixture(scope="module")
def one_training_process() -> Iterator[None]:
    """For all runs of a module in this process: what it imports takes longer than what it trains."""
    with trainers.Worker() as worker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "close", lambda: None)
        patch.setattr(trainers, "Worker", lambda *_, **__: worker)
        yield
        patch.undo()


@pytest.fixture
def plain_flows() -> Iterator[None]:
    with without_prefect():
        yield
