"""One file, one plug-in: the modules of a folder that define a given function, by name.

Found by reading, not by importing, so that listing what there is costs nothing and a helper module is no plug-in.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from constitution.errors import UserError


def names(package: str, function: str) -> list[str]:
    """The modules of a package's folder that define `function` at their top level."""
    folder = Path(__file__).parent.parent.joinpath(*package.split("."))
    return sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__" and _defines(p, function))


def load(package: str, function: str, name: str, noun: str) -> ModuleType:
    """Import one of them. Raises UserError for a name that is none, saying which there are."""
    known = names(package, function)
    if name not in known:
        raise UserError(f"there is no {noun} {name!r}; there are {', '.join(known)}")
    return importlib.import_module(f"{package}.{name}")


def _defines(path: Path, function: str) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in body)
