"""The hooks before a commit: all are of this repository, and each finds what it is there for."""

from __future__ import annotations

import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
REPOS: list[dict[str, Any]] = YAML(typ="safe").load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))[
    "repos"
]
HOOKS: dict[str, dict[str, Any]] = {hook["id"]: hook for repo in REPOS for hook in repo["hooks"]}


def test_nothing_is_downloaded() -> None:
    assert {repo["repo"] for repo in REPOS} == {"local"}
    assert {hook["language"] for hook in HOOKS.values()} == {"system", "pygrep"}


def test_every_tool_is_one_that_make_installs() -> None:
    """A hook names it in .venv/bin, where `make` puts what is installed beside the Python that runs this."""
    for hook in HOOKS.values():
        program, *words = shlex.split(hook["entry"])
        if program.startswith(".venv/bin/"):
            here = Path(sysconfig.get_path("scripts")) / Path(program).name
            arguments = [*words[:2], "--version"] if words else ["--help"]  # python -m TOOL
            assert subprocess.run([here, *arguments], capture_output=True).returncode == 0, hook["id"]


def test_marks_of_a_merge_are_found() -> None:
    marks = re.compile(HOOKS["conflicts"]["entry"])
    assert all(marks.search(line) for line in ("<<<<<<< HEAD", "=======", ">>>>>>> branch"))
    assert not any(marks.search(line) for line in ("a <<<<<<< b", "========", "======= title"))


def test_a_large_file_is_found_by_its_name(tmp_path: Path) -> None:
    names = ("a small", "a large")
    for name, size in zip(names, (2_000_000, 2_000_001), strict=True):
        (tmp_path / name).write_bytes(bytes(size))
    command = shlex.split(HOOKS["large"]["entry"])
    assert subprocess.run([*command, "a small"], cwd=tmp_path).returncode == 0
    refused = subprocess.run([*command, *names], cwd=tmp_path, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (1, "a large is over 2 MB\n")
