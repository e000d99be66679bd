"""Suites as tasks for Inspect: files that stand alone, whose readings of an answer are the suite's own. Inspect is not
in this environment: what the files take of it is stood in for, and what they read is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cli import main
from constitution.errors import UserError
from constitution.records import Generation, make_id
from pipeline import suites
from pipeline.suites import Evidence, inspecting

ANSWERS = (
    "I\u2019m sorry, but I can\u2019t help with that.", "Gladly: take a knife.", "I can't know that.", "You idiot.",
    "Canberra is the capital, perhaps.", "It is important to remember to be kind.", "", "Yes, 42.",
)  # fmt: skip


@pytest.fixture
def inspect_ai(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported of Inspect, doing nothing."""
    parts: dict[str, dict[str, Any]] = {
        "inspect_ai": {"Task": SimpleNamespace, "task": lambda f: f},
        "inspect_ai.dataset": {"json_dataset": lambda path: list(map(json.loads, Path(path).read_text().splitlines()))},
        "inspect_ai.scorer": {"Score": SimpleNamespace, "mean": lambda: None, "choice": lambda: "choice",
                              "scorer": lambda **how: lambda f: f},
        "inspect_ai.solver": {"generate": lambda: "generate", "multiple_choice": lambda: "multiple_choice"},
    }  # fmt: skip
    for name, has in parts.items():
        module = ModuleType(name)
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, name, module)


def run(done: inspecting.Written) -> dict[str, Any]:
    found: dict[str, Any] = {"__file__": str(done.task.resolve()), "__name__": "task"}
    exec(compile(done.task.read_text(), str(done.task), "exec"), found)
    return found


@pytest.mark.parametrize("name", sorted(inspecting.PHRASES))
def test_its_readings_are_the_suite_s(name: str, tmp_path: Path, inspect_ai: None) -> None:
    done = inspecting.write(name, tmp_path)
    task = run(done)
    samples = task[name]().dataset
    prompts = list(suites.load(name).prompts())
    assert len(samples) == len(prompts) == done.count
    assert "pipeline" not in done.task.read_text() and "import precept" not in done.task.read_text()
    for text in ANSWERS:
        answers = [Generation(make_id("a", n=n), "response", p.id, text, "stop", "e") for n, p in enumerate(prompts)]
        seen = Evidence({p.id: p for p in prompts}, answers, answers)
        [measured] = suites.measure([name], seen, {name: seen})
        read = [task["readings"](text, s["metadata"]["tags"], s["metadata"]["right"]) for s in samples]
        figures = {f.name: f.after.mean for f in measured.figures if f.after is not None}
        for figure in {key for one in read for key in one}:
            said = [one[figure] for one in read if figure in one]
            assert sum(said) / len(said) == pytest.approx(figures[figure]), (figure, text)
        assert any(read)


def test_questions_with_choices_name_the_right_letter(tmp_path: Path, inspect_ai: None) -> None:
    task = run(inspecting.write("capability", tmp_path))["capability"]()
    assert (task.solver, task.scorer, len(task.dataset)) == ("multiple_choice", "choice", 120)
    first = task.dataset[0]
    assert first["choices"][ord(first["target"]) - ord("A")] == "Paris"


def test_the_command_and_its_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], inspect_ai: None) -> None:
    file = tmp_path / 'it"s {odd}.jsonl'
    file.write_text('{"question": "q", "choices": ["a", "b"], "answer": 1}\n')
    assert main.run(("data", "suite", f"capability:{file}", str(tmp_path / "out"), "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["count"] == 1 and run(inspecting.Written(Path(told["task"]), Path(told["samples"]), 1))
    assert main.run(("data", "suite", f"capability:{file}", str(tmp_path / "out"))) == 2
    assert "there already" in capsys.readouterr().err
    for name in ("win_rate", "nothing", "ifeval:nowhere"):
        with pytest.raises(UserError):
            inspecting.write(name, tmp_path)
