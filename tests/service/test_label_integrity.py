"""A verdict reaches the training target: flip one that decides a label, and the label, its exported row and its row in
the trainer's file flip with it, and nothing else does. Which verdicts decide is what attribution says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from cli import main
from constitution.records import PROBABILITY, Id
from pipeline.metrics import attribution
from pipeline.trainers import dpo
from pipeline.trainers.trainer import Job
from pipeline.training_rows import read_rows
from service.queries import attribution as attributing
from service.work import learning
from storage import tables
from storage.runs import Run
from storage.store import Store
from tests.flows import pools
from tests.flows.pools import HashWiring, principle, write

Rows = dict[str, dict[str, Any]]  # by comparison, hex
CONSTITUTION = write([principle("kind", 3), principle("short"), principle("fair", 2)])
PROMPTS = 2  # twenty comparisons


class Recorder:
    """In the place of the training process: keeps the rows that it was given, as a trainer reads them."""

    def __init__(self) -> None:
        self.rows: Rows = {}

    def start(self) -> None: ...

    def close(self) -> None: ...

    def run(self, job: Job, on_progress: Any, say: Any) -> Any:
        lines = Path(job.dataset).read_text().splitlines()
        for row in read_rows(Path(job.dataset), dpo.COLUMNS):
            name = json.loads(lines[row.pop("line") - 1])["comparison"]
            self.rows[name] = {**row, "comparison": name}
        return type("Result", (), {"kind": "policy", "digest": job.id, "metrics": {}})()


@dataclass
class Pool:
    wiring: HashWiring
    run: Run
    comparisons: list[Id]
    settings: Path

    @property
    def store(self) -> Store:
        return self.wiring.store

    def flip(self, question: Id, comparison: Id) -> None:
        """As if the judge had said the opposite."""
        verdict = tables.verdict.c
        said = update(tables.verdict).where(verdict.question == question, verdict.comparison == comparison)
        with self.store._write() as connection:
            done = connection.execute(said.values(p1=PROBABILITY - verdict.p1, p2=PROBABILITY - verdict.p2))
            assert done.rowcount == 1

    def labels(self) -> dict[str, tuple[str, int]]:
        return {i.hex(): found for i, found in self.wiring.labels(CONSTITUTION, self.comparisons).items()}

    def exported(self) -> Rows:
        """What `precept data export` writes."""
        out = self.settings.parent / "pairs.jsonl"
        assert main.run(["data", "export", str(out), "--settings", str(self.settings), "--run", self.run.id.hex()]) == 0
        return {row["comparison"]: row for row in map(json.loads, out.read_text().splitlines())}

    def trained_on(self, monkeypatch: pytest.MonkeyPatch) -> Rows:
        """What a policy would be trained on: the file of the job, as the trainer reads it."""
        recorder = Recorder()
        with self.wiring.at_work(self.run, CONSTITUTION) as work:
            monkeypatch.setattr(work, "_trainers", recorder)
            monkeypatch.setattr(work, "digest_of", lambda model: "parent")
            learning.optimise(work, "policy", parent="parent", labels={"train": self.comparisons}, reward={})
        return recorder.rows


@pytest.fixture(params=["sqlite", "postgres"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/a.db" if sqlite else request.getfixturevalue("postgres").new_schema()
    wiring = HashWiring(url, tmp_path)
    prompts, ids = pools.fill(wiring.store, PROMPTS)
    run = pools.base_run(wiring, CONSTITUTION, prompts, ids)
    settings = tmp_path / "precept.toml"
    settings.write_text(f"store = {json.dumps(url)}\n")
    yield Pool(wiring, run, ids if sqlite else ids[:10], settings)
    wiring.close()


def deciding(pool: Pool) -> list[tuple[str, Id, Id]]:
    """(outcome, question, comparison) of every verdict without which its label would say something else. (One without
    which too little could be read decides whether there is a label, not what it says.)"""
    votes = attributing.votes(pool.wiring, CONSTITUTION, pool.comparisons, "judge")
    found = []
    for row, comparison in enumerate(pool.comparisons):
        account = attribution.account(votes, row)
        for part in account.parts:
            if part.standing == "bears" and part.without not in (account.outcome, "unreadable"):
                question = pool.wiring.hash_judge.question(CONSTITUTION[part.principle]).id
                found.append((account.outcome, question, comparison))
    return found


def test_a_deciding_verdict_that_is_flipped_flips_label_row_and_target_alone(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, exported, trained = pool.labels(), pool.exported(), pool.trained_on(monkeypatch)
    assert exported == pool.exported()
    here = {i.hex() for i in pool.comparisons}
    assert {c: row for c, row in exported.items() if c in here} == trained and len(trained) >= 5
    turned = {"other way": 0, "gone": 0, "new": 0}
    for outcome, question, comparison in deciding(pool):
        name = comparison.hex()
        pool.flip(question, comparison)
        now, rows, targets = pool.labels(), pool.exported(), pool.trained_on(monkeypatch)

        assert {c for c in now if now[c] != labels[c]} == {name}
        assert pools.side(*now[name]) != outcome
        for before, after in ((exported, rows), (trained, targets)):
            assert {c: row for c, row in before.items() if c != name} == {
                c: row for c, row in after.items() if c != name
            }
            turned[check(before.get(name), after.get(name), now[name])] += 1
        assert targets.get(name) == rows.get(name)
        pool.flip(question, comparison)
    assert (pool.labels(), pool.exported()) == (labels, exported)
    assert turned["other way"] >= 6 and turned["gone"] + turned["new"] >= 2  # each counts twice: exported, trained on
    capsys.readouterr()


def check(before: dict[str, Any] | None, after: dict[str, Any] | None, label: tuple[str, int]) -> str:
    """What became of a row; its p and its sides are the label's."""
    if after is None:
        assert before is not None and label[0] == "tied"
        return "gone"
    assert label[0] == "decided" and after["p"] == max(label[1], PROBABILITY - label[1]) / PROBABILITY > 0.5
    if before is None:
        return "new"
    assert (after["chosen"], after["rejected"]) == (before["rejected"], before["chosen"])
    assert after["prompt"] == before["prompt"]
    return "other way"


def test_a_verdict_that_does_not_bear_turns_nothing(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    votes = attributing.votes(pool.wiring, CONSTITUTION, pool.comparisons, "judge")
    labels, exported = pool.labels(), pool.exported()
    parts = [(c, part) for row, c in enumerate(pool.comparisons) for part in attribution.account(votes, row).parts]
    silent = [(c, part.principle) for c, part in parts if part.standing in ("does not bear", "unreadable")]
    assert len(silent) >= 4
    for comparison, name in silent:
        pool.flip(pool.wiring.hash_judge.question(CONSTITUTION[name]).id, comparison)
    assert (pool.labels(), pool.exported()) == (labels, exported)
    capsys.readouterr()
