"""How the parts may know each other: the layers, what the command line loads, who reads the environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("constitution", "pipeline", "storage", "service", "flows", "cli", "sandbox")
HEAVY = ("prefect", "torch", "transformers", "trl", "sqlalchemy", "pydantic", "ruamel", "matplotlib", "numpy")
# Programs of their own, which set what torch reads when it is imported; those that start them; who says which devices
# they see; and what transformers' TensorBoard reads nowhere else, set in a training's process alone.
STARTS_PROCESSES = {
    "pipeline/trainers/__main__.py",
    "pipeline/trainers/launching.py",
    "pipeline/trainers/trackers.py",
    "pipeline/trainers/worker.py",
    "sandbox/recipe.py",
    "service/devices.py",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """The modules that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_the_contracts_of_the_layers_are_kept() -> None:
    """In a process of its own: import-linter silences every logger of the one that it runs in."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environment_is_read_by_the_settings_for_keys_and_for_prefect_alone() -> None:
    readers = {path for path, tree in modules() if any(map(_reads_environment, ast.walk(tree)))}
    assert readers - STARTS_PROCESSES == {"service/settings.py", "pipeline/keys.py", "flows/environment.py"}


def _reads_environment(node: ast.AST) -> bool:
    names = ("environ", "environb", "getenv", "putenv")
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in names for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", "") == "os"


def test_who_acts_is_asked_of_the_process_at_the_edges_alone() -> None:
    """The command line, and a flow that a schedule started: further in, who acts is an argument."""
    askers = {
        path
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and "process_user" in (getattr(node, "id", ""), getattr(node, "attr", ""))
    }
    assert askers and {path.split("/")[0] for path in askers} <= {"cli", "flows"}


def test_nothing_but_the_command_line_knows_the_sandbox() -> None:
    """It is a source, a suite, an oracle and two models, found by name."""
    users = {path for path, tree in modules() if any(name.split(".")[0] == "sandbox" for name in imported(tree))}
    assert {path.split("/")[0] for path in users} <= {"cli", "sandbox"}


def test_the_truth_is_looked_at_in_one_file() -> None:
    """`oracle` is a word of the settings, of the wiring that builds one, of the file that measures with it, and of the
    look at the settings before a run, which builds one and asks it nothing."""
    readers = {
        path
        for path, tree in modules()
        if path.split("/")[0] in ("service", "flows", "pipeline", "storage")
        and any(isinstance(node, ast.Attribute) and node.attr == "oracle" for node in ast.walk(tree))
    }
    assert readers == {"service/preflight.py", "service/queries/measure.py", "service/wiring.py"}
