"""`docs/promises.md`: every row names tests, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines()
ROWS = [line for line in LINES if re.match(r"\| \d+ \|", line)]
NAMED = [tuple(name.split("::")) for line in ROWS for name in re.findall(r"`([^`]+\.py::[^`]+)`", line)]


@cache
def found_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_is_there_and_names_a_test() -> None:
    assert [int(line.split("|")[1]) for line in ROWS] == list(range(1, 29))
    assert all("::test_" in line for line in ROWS)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in found_in(file)
