"""One file, one plug-in: the modules of a folder that define a given function, and those that installed packages offer
under an entry point's group, by name.

Found by reading, not by importing, so that listing what there is costs nothing and a helper module is no plug-in.
"""

from __future__ import annotations

import ast
import importlib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from constitution.errors import UserError


def names(package: str, function: str, group: str = "") -> list[str]:
    """The modules of a package's folder that define `function` at their top level, and the entry points of `group`."""
    return sorted({*_files(package, function), *_offered(group)})


def load(package: str, function: str, name: str, noun: str, group: str = "") -> ModuleType:
    """Import one of them. Raises UserError for a name that is none, saying which there are."""
    if name in _files(package, function):
        return importlib.import_module(f"{package}.{name}")
    offered = _offered(group)
    if name in offered:
        found: ModuleType = offered[name].load()
        return found
    raise UserError(f"there is no {noun} {name!r}; there are {', '.join(names(package, function, group))}")


def _files(package: str, function: str) -> list[str]:
    folder = Path(__file__).parent.parent.joinpath(*package.split("."))
    return [p.stem for p in folder.glob("*.py") if p.stem != "__init__" and _defines(p, function)]


def _offered(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)} if group else {}


def _defines(path: Path, function: str) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in body)
