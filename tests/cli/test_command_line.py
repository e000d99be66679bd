"""The command line as a whole: instant help, exit codes, and failures that are one message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import main, runs
from cli.options import flags_of
from constitution.errors import UserError

# Typer itself imports pydantic, for the help of a command that has options.
HEAVY = ("prefect", "torch", "transformers", "trl", "sqlalchemy", "ruamel", "numpy", "httpx", "pydantic_settings")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cli import main\n"
        "assert main.run(['--help']) == 0 and 'pydantic' not in sys.modules\n"
        "for words in (['--help'], ['improve', '--help'], ['run', 'resume', '--help']):\n"
        "    assert main.run(words) == 0\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not found, found"
    )
    root = Path(main.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def commands(group: Any = None, path: str = "") -> dict[str, typer.core.TyperCommand]:
    """Every command, by its words: groups may hold groups."""
    found: dict[str, typer.core.TyperCommand] = {}
    for name, command in (group or typer.main.get_command(main.app)).commands.items():
        words = f"{path} {name}".strip()
        found |= commands(command, words) if getattr(command, "commands", None) else {words: command}
    return found


EVERY = commands()
OWN = sorted(name for name, command in EVERY.items() if not command.hidden)


@pytest.mark.parametrize("name", OWN)
def test_every_command_says_how_it_is_used(name: str) -> None:
    help = EVERY[name].help or ""
    assert "Example: precept " + name.removesuffix(" start") in help  # `precept review` is `review start`


@pytest.mark.parametrize("name", OWN)
def test_examples_are_commands_that_parse(name: str) -> None:
    import shlex

    example = (EVERY[name].help or "").partition("Example: precept ")[2].partition(" > ")[0].split("\n")[0]
    words = shlex.split(example)[len(name.removesuffix(" start").split()) :]
    EVERY[name].make_context(name, words, resilient_parsing=False).close()


def test_the_promised_commands_are_there() -> None:
    groups = {
        "run": "list show resume report compare",
        "model": "list show evaluate promote rollback merge lineage",
        "constitution": "new check show diff amend test lint log blame restore attribute compare",
        "judge": "pairs",
        "review": "start agreement",
        "data": "import export",
        "schedule": "add list remove",
        "store": "collect",
        "settings": "show explain",
        "sandbox": "build words prompts",
    }
    nested = {f"{group} {name}" for group, names in groups.items() for name in names.split()}
    assert nested | set("init improve retrain doctor train sweep score flow".split()) <= set(EVERY)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["run", "show"], "Missing argument 'ID'"),
        (["improve", "--set", "foo"], "write NAME=VALUE"),
        (["improve", "--set", "nonsense=1"], "nonsense"),
        (["improve", "--set", "trial.required=chek"], "trial.required: it is neither true nor false: 'chek', nor 'che"),
        (["improve", "--set", "judge.revision=2"], 'judge.revision: it is not a text: write "2", in quotes'),
        (["improve", "--set", "trial.pairs=[5]"], "trial.pairs.0: it is not a text, nor a mapping of keys and val"),
        (["improve", "--settings", "none.toml"], "there is no settings file none.toml"),
        (["run", "show", "abc"], "there is no run 'abc'"),
        (["run", "report"], "no such run has a report"),
        (["review", "agreement"], "nothing was judged yet"),
        (["data", "export", "out.txt"], "give a .jsonl, a .parquet or a .csv file"),
        (["model", "promote", "abc"], "--why"),
        (["model", "promote"], "Missing argument 'CHECKPOINT'"),
        (["promote"], "name a checkpoint"),
        (["settings", "explain", "judge.modle"], "near it: judge.model"),
        (["model", "show", "abcd"], "there is no checkpoint 'abcd'"),
        (["flow", "nothing"], "there is no flow 'nothing'"),
        ([*"train --method none --data x --model y --out z".split()], "there is no training method 'none'"),
        ([*"train --method sft --data x --model y --out z".split()], "there is no such model folder"),
        (["sandbox", "words", "none"], "the sandbox has no theme 'none'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(project, precept, words, said) -> None:
    outcome = precept(*words)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert not outcome.out


def test_a_message_cannot_write_to_the_terminal(precept, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("a model named \x1b[2J\u202e")

    monkeypatch.setattr(runs, "load", fail)
    outcome = precept("run", "report")
    assert outcome.code == 2
    assert outcome.err == "a model named <U+001B>[2J<U+202E>\n"


def test_a_bug_is_raised(precept, monkeypatch) -> None:
    monkeypatch.setattr(runs, "load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        precept("run", "report")


def test_values_of_flags_are_read_as_toml_or_as_text() -> None:
    given = ["a=3", "b.c=0.5", "d=true", "e=[1, 2]", 'f="3"', "g=models/x", "h=", "i=a = b"]
    assert flags_of(given) == {
        "a": 3, "b.c": 0.5, "d": True, "e": [1, 2], "f": "3", "g": "models/x", "h": "", "i": "a = b",
    }  # fmt: skip


def test_a_value_cannot_smuggle_in_another_setting() -> None:
    assert flags_of(["a=1\nstore = 2"]) == {"a": "1\nstore = 2"}
