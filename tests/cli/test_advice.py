"""A message that advises an option: the command that it names, or that it was printed by, has that option."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

from cli.main import app
from tests.cli.terminal import ROOT

# where messages are that people get; engines and trainers name options of other programs
FOLDERS = ("cli", "constitution", "pipeline/sources", "pipeline/metrics", "pipeline/suites", "service")
FOREIGN = {  # of servers and pip, and names of colours
    "--enable-tokenizer-info-endpoint", "--card", "--ink", "--line", "--muted", "--accent", "--help",
}  # fmt: skip
OTHERS = ("service/vllm/", "service/devices.py", "service/actions/engines.py")  # speak to vLLM and nvidia-smi
COMMAND = typer.main.get_command(app)


def commands(group: click.Command = COMMAND, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every command with its options."""
    yield path, {option for p in group.params for option in (*p.opts, *p.secondary_opts)}
    for name, one in getattr(group, "commands", {}).items():
        yield from commands(one, (*path, name))


OPTIONS = dict(commands())


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the code, the parts of an f-string put together, without the documentation of the code itself."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            docs = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            inside = {id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values}
            for node in ast.walk(tree):
                where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.JoinedStr):
                    parts = [v.value if isinstance(v, ast.Constant) else "X" for v in node.values]
                    yield where, "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docs:
                    yield where, node.value


def test_an_option_that_a_message_names_is_one() -> None:
    known = {option for some in OPTIONS.values() for option in some} | FOREIGN
    wrong = [
        (where, flag)
        for where, text in texts()
        if " " in text and not where.startswith(OTHERS)  # a word alone is an argument of another program
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if flag not in known
    ]
    assert not wrong


def test_a_command_that_a_message_names_is_one_and_has_the_options_beside_it() -> None:
    wrong, seen = [], 0
    for where, text in texts():
        for words in re.findall(r"precept ((?:[a-z-]+ ?)+[^`\n;:)]*)", text):
            path: tuple[str, ...] = ()
            for word in words.split():
                if (*path, word.rstrip(".,")) not in OPTIONS:
                    break
                path = (*path, word.rstrip(".,"))
            if not path:
                continue
            seen += 1
            # an option of a command that a group falls back to is one of the group's, too
            there = {o for known, some in OPTIONS.items() if known[: len(path)] == path for o in some} | FOREIGN
            wrong += [(where, path, f) for f in re.findall(r"(?<![\w-])--[a-z][a-z-]+", words) if f not in there]
    assert seen > 60 and not wrong


@pytest.mark.parametrize(
    "words",
    [
        ("judge", "trial", "--pairs", "bad.jsonl"),
        ("judge", "trial", "--recorded", "bad.jsonl"),
        ("judge", "pairs", "bad.jsonl"),
        ("data", "import", "prompts", "bad.jsonl"),
        ("data", "import", "pairs", "bad.jsonl"),
        ("data", "import", "preferences", "bad.jsonl"),
    ],
)
def test_what_a_command_advises_about_bad_rows_it_takes(project: Path, precept, words: tuple[str, ...]) -> None:
    rows = [{"prompt": 3, "a": "x", "b": "x", "split": "none"}, {"prompt": "Q?", "better": "x", "worse": "x"}]
    Path("bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = precept(*words)
    path = next(words[:n] for n in range(len(words), 0, -1) if words[:n] in OPTIONS)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.err))
    assert done.code == 2 and "--skip-bad" in named and named <= OPTIONS[path]


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_an_empty_file_is_told_of_with_where_the_shapes_are(project: Path, precept, content: str) -> None:
    Path("none.jsonl").write_text(content)
    for words in (
        ("judge", "trial", "--pairs", "none.jsonl"),
        ("judge", "trial", "--recorded", "none.jsonl"),
        ("data", "import", "prompts", "none.jsonl"),
    ):
        done = precept(*words)
        assert done.code == 2 and "none.jsonl" in done.err and ".md" in done.err, done.err
