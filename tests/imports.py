"""Which files are built on which: the packages by grimp's graph of imports, the tests by their `import` statements.

Beside what it imports, a file is built on

- the modules that it names in a string (`-m console.main`, `monkeypatch.setattr("flows.x.y", ...)`);
- the plug-ins, where it is a package that finds its modules by name;
- the `conftest.py` of its folder and of those above, where it is a test.

Too much rather than too little: a module in a string may be an example.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import grimp

NOT_OURS = ("tests", "benchmarks")  # folders with an `__init__.py` that are no packages of the house
# Where modules are found by name, and by whom; beside the packages whose `__init__` uses a module `plugins`.
BY_NAME = {
    "flows/discovery.py": "flows",
    "storage/migrations/__init__.py": "storage/migrations",
    "web/pages/__init__.py": "web/pages",
    "web/api/__init__.py": "web/api",
}


def dependencies(root: Path, by_name: Mapping[str, str] = BY_NAME) -> dict[str, set[str]]:
    """By file, the files that it is built on. Files are named from the root, with slashes."""
    packages = [p.parent.name for p in root.glob("*/__init__.py") if p.parent.name not in NOT_OURS]
    graph = _imports(root, packages)
    for path in (*(p for name in packages for p in (root / name).rglob("*.py")), *(root / "tests").rglob("*.py")):
        name, tree = relative(path, root), ast.parse(path.read_text(encoding="utf-8"))
        graph[name] |= {f for text in _strings(tree) for f in _named(text, root, packages)} - {name}
        if name.startswith("tests/"):
            graph[name] |= {f for module in _imported(tree) if (f := _file(module, root))}
            folders = [folder for folder in path.parents if folder.is_relative_to(root / "tests")]
            graph[name] |= {relative(folder / "conftest.py", root) for folder in folders} - {name}
    plugs = {f: str(Path(f).parent) for f, on in graph.items() if f.endswith("__init__.py") and _plugs(on)}
    for finder, folder in (plugs | dict(by_name)).items():
        graph[finder] |= {relative(p, root) for p in (root / folder).rglob("*.py")} - {finder}
    return dict(graph)


def _imports(root: Path, packages: list[str]) -> defaultdict[str, set[str]]:
    """grimp's graph of our packages, which have to be importable from `root`."""
    sys.path.insert(0, str(root))
    try:
        imports = grimp.build_graph(packages[0], *packages[1:], cache_dir=None)
    finally:
        sys.path.remove(str(root))
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for module in imports.modules:
        graph[_file(module, root)] |= {
            _file(found, root) for found in imports.find_modules_directly_imported_by(module)
        }
    return graph


def _plugs(on: Iterable[str]) -> bool:
    return any(Path(f).stem == "plugins" for f in on)


def _strings(tree: ast.AST) -> Iterator[str]:
    """The string constants of a module that are no docstrings: those only tell."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def _named(text: str, root: Path, packages: list[str]) -> Iterator[str]:
    """The files of modules that a text names: `console.main`, or an attribute of one."""
    for name in re.findall(rf"\b(?:{'|'.join(packages)})(?:\.\w+)+", text):
        if found := _file(name, root):
            yield found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(name: str, root: Path) -> str:
    """The file of a module, or of the one that an attribute is in; empty where it is not ours."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        path = root.joinpath(*words[:end])
        for found in (path.with_suffix(".py"), path / "__init__.py"):
            if found.is_file():
                return relative(found, root)
    return ""


def relative(path: Path, root: Path) -> str:
    """A file's name in all of this: from the root, with slashes."""
    return path.relative_to(root).as_posix()
