"""The workflow file that teams copy: it parses, asks for little, and calls precept with commands that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

FILE = Path(__file__).parents[1] / "docs" / "ci" / "constitution.yml"
OUR_OWN = frozenset({"GITHUB_BASE_REF", "GITHUB_STEP_SUMMARY", "PRECEPT"})


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(FILE.read_text(encoding="utf-8"))
    return found


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(workflow: dict[str, Any]) -> list[list[str]]:
    """The words of every call of precept, without what the shell does with its output."""
    lines = [line for step in steps(workflow) for line in step.get("run", "").splitlines() if "precept " in line]
    return [shlex.split(re.split(r">>|[|&;>]", line)[0]) for line in lines]


def parse(words: list[str]) -> str:
    """Parse a call as the command line would, and run nothing. Raises click's UsageError; returns the command."""
    from cli.main import app

    command: Any = get_command(app)
    assert words.pop(0) == "precept"
    path = []
    while hasattr(command, "commands"):
        path.append(words.pop(0))
        assert path[-1] in command.commands, f"there is no command {' '.join(path)}"
        command = command.commands[path[-1]]
    command.make_context(path[-1], words)
    return " ".join(path)


def test_it_runs_on_pull_requests_that_touch_the_constitution(workflow: dict[str, Any]) -> None:
    assert list(workflow["on"]) == ["pull_request"]  # not pull_request_target: a fork's code would see the secrets
    assert "principles.yaml" in workflow["on"]["pull_request"]["paths"]


def test_every_command_in_it_exists_with_its_options(workflow: dict[str, Any]) -> None:
    found = [parse(words) for words in commands(workflow)]
    assert found == ["constitution check", "constitution diff", "constitution test"]


def test_an_option_that_is_not_there_would_be_found() -> None:
    with pytest.raises(Exception, match="nonsense"):
        parse(["precept", "constitution", "check", "--nonsense"])


def test_it_may_read_and_no_more(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    checkout = next(step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_actions_are_pinned_by_major_version(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[a-z-]+@v[0-9]+", name) for name in used)


def test_no_secret_and_nothing_a_pull_request_says_reaches_a_shell(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        assert "${{" not in step.get("run", "")
        assert set(re.findall(r"\$(\w+)", step.get("run", ""))) <= OUR_OWN
    holders = [step["name"] for step in steps(workflow) if "secrets." in str(step.get("env", ""))]
    assert holders == ["Do the examples pass?"]  # the only step that asks a judge
