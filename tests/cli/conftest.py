"""A project folder on the scripted engine, and in its store a run that labelled six pairs without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli import main
from constitution import loading
from constitution.records import Comparison, Generation, Id, Prompt, Question, Verdict, make_id
from pipeline.sources.rows import read_prompts
from service import settings as settings_module
from service.identity import run_key
from service.wiring import Wiring
from storage.runs import Run
from storage.store import Store

PRINCIPLES = """\
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}
  - {id: short, title: Short, critique: Is it long?, revision: Be short., comparison: Which is shorter?, weight: 1}
"""
SCRIPT = """\
rules:
  - {match: Reply A, choose: hash}
  - {text: An answer.}
"""
SETTINGS = """\
prompts = "prompts.jsonl"
oracle = ""
[policy]
kind = "scripted"
model = "script.yaml"
[critic]
kind = "scripted"
model = "script.yaml"
[judge]
kind = "scripted"
model = "script.yaml"
[evaluator]
kind = "scripted"
model = "script.yaml"
"""
PROMPTS = [
    {"prompt": f"Question {number}?", "split": "heldout" if number == 5 else "train", "tags": ["harmless"]}
    for number in range(6)
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with precept.toml and what it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRECEPT_USER", "ada")
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "precept.toml").write_text(SETTINGS)
    (tmp_path / "principles.yaml").write_text(PRINCIPLES)
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return tmp_path


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Precept = Callable[..., Outcome]


@pytest.fixture
def precept(capfd: pytest.CaptureFixture[str]) -> Precept:
    """Run a command line in this process: `precept("run", "list")`."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main.run([str(a) for a in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def store(project: Path) -> Iterator[Store]:
    with Store.open("sqlite:///runs/precept.db") as store:
        yield store


# What the judge says of each pair: p that the *longer* answer is better by `kind`, in both orders.
# Decided for the longer (0, 1, 4, 5), an order flip that leaves `short` alone (2), unreadable (3).
KIND = {0: (0.95, 0.95), 1: (0.9, 0.9), 2: (0.9, 0.1), 3: None, 4: (0.99, 0.99), 5: (0.97, 0.97)}


@dataclass
class Labelled:
    """A run whose judge answered. `longer[i]`: whether the longer answer of pair i is the comparison's first."""

    run: Run
    comparisons: list[Id]
    longer: list[bool]
    prompts: list[Prompt]


@pytest.fixture
def labelled(project: Path, store: Store) -> Labelled:
    settings, _ = settings_module.load()
    constitution = loading.load("principles.yaml")
    prompts = read_prompts(Path("prompts.jsonl"), heldout=0.2, dev=0.1)
    key = run_key("improve", Wiring(settings), prompts)
    store.put_constitution(constitution.version, constitution.source)
    started = {"settings": settings.identity(), "policy": "script.yaml"}
    run = store.start_run(key, "improve", started, constitution.version)
    store.add_prompts(prompts)
    store.add_members(run.id, "prompts", [p.id for p in prompts])
    questions = [Question("judge", {"method": "choice"}, p.comparison, p.id) for p in constitution.principles]
    for stage in ("feedback", "held-out feedback"):
        store.add_questions(questions, constitution=constitution.version, run=run.id, stage=f"{stage}.questions")
    comparisons, longer = [], []
    for number, prompt in enumerate(prompts):
        texts = (f"short {number}", f"a longer answer {number} \x1b[31m[red]\u202e")
        made = [_generation(prompt, sample, text) for sample, text in enumerate(texts)]
        stage = "held-out feedback" if prompt.split == "heldout" else "feedback"
        store.add_generations(made, run=run.id, stage="samples")
        comparison = Comparison.of(prompt.id, *(g.content for g in made))
        store.add_comparisons([comparison], origins=[[g.id for g in made]], run=run.id, stage=stage)
        first = comparison.first == made[1].content
        store.add_verdicts(list(_verdicts(questions, comparison.id, KIND[number], first)), run=run.id, stage=stage)
        comparisons.append(comparison.id)
        longer.append(first)
    return Labelled(run, comparisons, longer, prompts)


def _generation(prompt: Prompt, sample: int, text: str) -> Generation:
    ident = make_id("test", prompt=prompt.id, sample=sample)
    return Generation(
        ident, "response", prompt.id, text, "stop", "scripted", sample=sample, prompt_tokens=10, tokens=30
    )


def _verdicts(
    questions: list[Question], comparison: Id, kind: tuple[float, float] | None, first: bool
) -> Iterator[Verdict]:
    """`short` always abstains: both orders are near even."""
    for question, said in zip(questions, (kind, (0.55, 0.55)), strict=True):
        mass = 0 if kind is None else 10**9
        p1, p2 = (round(p * 10**9) for p in said or (0.5, 0.5))
        yield Verdict(question.id, comparison, *((p1, p2) if first else (10**9 - p1, 10**9 - p2)), mass, mass)
