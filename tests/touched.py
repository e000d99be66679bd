"""Runs the tests that a change touches, the nearest first: `make check`, or `python -m tests.touched [--list]`.

A change is what differs from where the branch left `origin/main` (from the last commit, where there is no such branch),
with the working tree and new files. A test file is touched if it changed, or if what it is built on did
(`tests/imports.py`). A file that is no code touches the modules that name it, or else its package. Tests that lie
directly in `tests/` look at the house as a whole: every change touches them.

Left out, and told: what is marked slow, and what does not fit in `--seconds` of tests, by how long they took here
before (`tests/seconds.py`). It is a quick look before a commit, not `make test`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests import seconds
from tests.imports import dependencies, relative

ROOT = Path(__file__).parents[1]
BUDGET = 60.0  # seconds of tests; two processes share them, and start for ten
NO_TESTS = 5  # pytest's exit code where all that was chosen is marked slow
GUESS = 5.0  # of a test file that has not run here before


def main(arguments: list[str]) -> int:
    """Select and run. Returns pytest's exit code; 0 where the change touches no test."""
    parser = argparse.ArgumentParser(description="Run the tests that a change touches.")
    parser.add_argument("--seconds", type=float, default=BUDGET, help=f"of tests, at most ({BUDGET:.0f})")
    parser.add_argument("--list", action="store_true", help="only print them, each with its distance to the change")
    parser.add_argument("pytest", nargs="*", help="options for pytest, after --")
    given = parser.parse_args(arguments)
    since = base(ROOT)
    changes = changed(ROOT, since)
    found = touched(changes, dependencies(ROOT), ROOT)
    print(f"since {since[:12]} {len(changes)} files changed, which touches {len(found)} test files", flush=True)
    took = seconds.by_file(ROOT)
    if given.list:
        for path, distance in found.items():
            print(f"{distance:3} {took.get(path, GUESS):7.1f} s{'' if path in took else '?'} {path}")
        return 0
    chosen = fitting(found, took, given.seconds)
    if not chosen:
        return 0
    command = [sys.executable, "-m", "pytest", "-m", "not slow and not vllm", *given.pytest, *chosen]
    code = subprocess.run(command, cwd=ROOT).returncode
    left = Counter(path.rpartition("/")[0] for path in found if path not in chosen)
    counts = ", ".join(f"{count} in {folder}" for folder, count in sorted(left.items()))
    print(f"not run: tests marked slow, and {left.total()} files that did not fit{counts and f' ({counts})'}")
    print("which, with their seconds: python -m tests.touched --list; all of them: make test")
    return 0 if code == NO_TESTS else code


def fitting(found: Mapping[str, int], took: Mapping[str, float], budget: float) -> list[str]:
    """The nearest test files that fit in a budget of seconds together. Those that changed themselves always do."""
    chosen, spent = [], 0.0
    for path, distance in found.items():
        needed = took.get(path, GUESS)
        if distance == 0 or spent + needed <= budget:
            chosen.append(path)
            spent += needed
    return chosen


# --- what changed ------------------------------------------------------------------------------------------------


def base(root: Path) -> str:
    """The commit that the change is measured from."""
    for command in (("merge-base", "HEAD", "origin/main"), ("rev-parse", "--verify", "-q", "HEAD~")):
        if found := _git(root, *command):
            return found[0]
    return _git(root, "hash-object", "-t", "tree", "/dev/null")[0]  # the first commit: all is new


def changed(root: Path, since: str) -> list[str]:
    """Files that differ from a commit, deleted ones too, and those that git does not know yet."""
    known = _git(root, "diff", "--name-only", "--no-renames", since)
    return sorted({*known, *_git(root, "ls-files", "--others", "--exclude-standard")})


def _git(root: Path, *words: str) -> list[str]:
    done = subprocess.run(["git", "-c", "core.quotePath=false", *words], cwd=root, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


# --- what a change touches ---------------------------------------------------------------------------------------


def touched(changes: Iterable[str], graph: Mapping[str, set[str]], root: Path) -> dict[str, int]:
    """The test files that changed files touch, the nearest first, with their distance: 0 changed, 1 built on it."""
    above = defaultdict(set)
    for file, on in graph.items():
        for found in on:
            above[found].add(file)
    changes = set(changes)
    distance = dict.fromkeys((c for c in changes if c.endswith(".py")), 0)
    for file in changes:
        distance |= dict.fromkeys(_beside(file, graph, root) - changes, 1)
    reached = sorted(distance, key=lambda f: distance[f])
    for file in reached:  # grows while it is walked, the nearest first
        for user in sorted(above[file] - distance.keys()):
            distance[user] = distance[file] + 1
            reached.append(user)
    tests = {f: d for f, d in distance.items() if _is_test(f) and (root / f).is_file()}
    if changes:
        stems = {Path(c).stem for c in changes}
        for path in (root / "tests").rglob("test_*.py"):
            name = relative(path, root)
            if path.parent == root / "tests" or path.stem.removeprefix("test_") in stems:  # tests mirror modules
                tests[name] = min(1, tests.get(name, 1))
    return ordered(tests, changes)


def ordered(tests: Mapping[str, int], changes: Iterable[str]) -> dict[str, int]:
    """The nearest first, and of those as near the ones that mirror a package that changed."""
    own = {c.split("/")[0] for c in changes}
    return dict(sorted(tests.items(), key=lambda item: (item[1], item[0].split("/")[1] not in own, item[0])))


def _beside(file: str, graph: Mapping[str, set[str]], root: Path) -> set[str]:
    """The files that are built on a changed file in another way than by importing it."""
    if file.endswith("/__init__.py"):  # it is run before any module of its package
        return {f for f in graph if f.startswith(file.removesuffix("__init__.py"))}
    if file.endswith(".py"):
        return set()
    texts = {f: (root / f).read_text(encoding="utf-8") for f in graph if (root / f).is_file()}
    package = next((p for p in (root / file).parents if (p / "__init__.py").is_file() and p != root), None)
    naming = {f for f, text in texts.items() if Path(file).name in text}
    if package is None:
        return naming
    own = {f for f in graph if (root / f).parent == package}
    return naming & {f for f in graph if f.startswith(f"{relative(package, root)}/")} or own


def _is_test(file: str) -> bool:
    return file.startswith("tests/") and Path(file).name.startswith("test_")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
