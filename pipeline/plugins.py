"""Plug-ins by name: the modules of a folder that define a given function, and what installed packages add to them.

The folder's are found by reading, not by importing, so that listing what there is costs nothing and a helper module is
no plug-in. A package adds one with an entry point that names a module, in the group of its kind:

    [project.entry-points."precept.judges"]
    x = "my_package.my_judge"           # a module that keeps the contract of pipeline/judges/judge.py

The groups are precept.judges, precept.trainers, precept.engines, precept.rewards, precept.sources, precept.suites,
precept.flows, precept.jobs, and, without a folder here, precept.oracles (known truth) and precept.models (models in a
package).
They are read once, when somebody first asks, and nothing in them is imported before it is chosen: a package that is
broken is told of when its plug-in is named, and is in nobody's way before that. A name that two claim
is refused: whoever wins, somebody would get another plug-in than the one meant. `-` in a name counts as `_`.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from constitution.errors import UserError, meant


@dataclass(frozen=True, slots=True)
class Installed:
    """A plug-in of an installed package. `module` is its dotted name; `package` the package and its version."""

    name: str
    module: str
    package: str

    def __str__(self) -> str:
        return f"{self.module} of the package {self.package}"


def names(package: str, function: str) -> list[str]:
    """The names of a kind's plug-ins: the modules of a package's folder that define `function` at their top level, and
    what installed packages add to them."""
    return sorted({*_own(package, function), *installed(_kind(package))})


def load(package: str, function: str, name: str, noun: str) -> ModuleType:
    """Import one of them. Raises UserError for a name that is none, saying which there are; for one that several
    claim; and for an installed one that is broken."""
    plugin = find(_kind(package), _own(package, function), name, noun)
    if plugin is not None:
        return imported(plugin, function, noun)
    name = name.replace("-", "_")
    try:
        return importlib.import_module(f"{package}.{name}")
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file that somebody dropped in may raise anything
        path = f"{package.replace('.', '/')}/{name}.py"
        raise UserError(f"the {noun} {name!r} ({path}) cannot be imported: {type(error).__name__}: {error}") from error


def outside(kind: str, function: str, name: str, noun: str) -> ModuleType:
    """The module of a kind that has no folder here, oracles and packaged models: packages alone have them. Raises as
    `load` does."""
    plugin = find(kind, (), name, noun)
    assert plugin is not None  # no name is the folder's
    return imported(plugin, function, noun)


def packaged_model(name: str) -> str | None:
    """The folder of a model in a package, as `sandbox:policy` names it; None for any other name. Raises UserError where
    the package has no such model."""
    package, colon, model = name.partition(":")
    if not colon or package.replace("-", "_") not in installed("models"):
        return None
    module = outside("models", "folder", package, "package of models")
    try:
        return str(module.folder(model))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(error, module, "package of models") from error


def installed(kind: str) -> Mapping[str, tuple[Installed, ...]]:
    """What the entry points of the group `precept.<kind>` name, by name; several under one where packages clash."""
    found: dict[str, tuple[Installed, ...]] = {}
    for point in sorted(_entry_points().select(group=f"precept.{kind}"), key=lambda point: str(point.value)):
        name = point.name.replace("-", "_")
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "(unknown)"
        found[name] = (*found.get(name, ()), Installed(name, point.value, package))
    return found


def find(kind: str, own: Collection[str], name: str, noun: str) -> Installed | None:
    """The installed plug-in of that name, or None where it is one of `own`, the names of the folder's.

    Raises UserError for a name that is neither, and for one that several claim.
    """
    name = name.replace("-", "_")
    others = installed(kind)
    claims = others.get(name, ())
    if name in own and not claims:
        return None
    if len(claims) == 1 and name not in own:
        return claims[0]
    if not claims:
        there = sorted({*own, *others})
        raise UserError(f"there is no {noun} {name!r}; there are {', '.join(there) or 'none'}{meant(name, there)}")
    both = [*(["precept itself"] if name in own else []), *map(str, claims)]
    raise UserError(
        f"the {noun} {name!r} is claimed by {' and by '.join(both)}; rename or uninstall all but one of them"
    )


def imported(plugin: Installed, function: str, noun: str) -> ModuleType:
    """The module of an installed plug-in. Raises UserError, naming its package, where it cannot be imported or has no
    such function."""
    said = f"the {noun} {plugin.name!r} ({plugin})"
    mend = "mend the package, install another version of it, or uninstall it"
    if not all(part.isidentifier() for part in plugin.module.split(".")):
        raise UserError(f"{said} must name a module, like my_package.my_module; {mend}")
    try:
        module = importlib.import_module(plugin.module)
    except (Exception, SystemExit) as error:  # another's code may raise anything
        raise UserError(f"{said} cannot be imported: {type(error).__name__}: {error}; {mend}") from error
    if not callable(getattr(module, function, None)):
        raise UserError(f"{said} has no function {function}; {mend}")
    return module


def holds(module: ModuleType, noun: str, **kinds: type) -> None:
    """Raises UserError where a plug-in's module lacks a name that its contract asks for, or has something else there:
    by name the type of each."""
    for name, kind in kinds.items():
        value = getattr(module, name, None)
        if not isinstance(value, kind) or (isinstance(value, str) and kind is not str):
            lacks = f"has no {name}" if value is None else f"has a {name} that is a {type(value).__name__}"
            raise UserError(
                f"the {noun} in {module.__name__} {lacks}; it must be a {kind.__name__.lower()}: mend the plug-in, or "
                "take another"
            )


def failed(error: BaseException, module: ModuleType, noun: str) -> UserError:
    """What is told of a plug-in whose code raised something that is no message for a user."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return UserError(f"the {noun} in {module.__name__} failed: {said}; mend it, or take another")


@contextmanager
def mended(module: ModuleType, noun: str, *besides: type[Exception]) -> Iterator[None]:
    """Whatever a plug-in's code raises is told as a message that names it, but for what is a message already, and for
    `besides`, which its contract knows."""
    known: tuple[type[Exception], ...] = (UserError, *besides)
    try:
        yield
    except known:
        raise
    except (Exception, SystemExit) as error:  # another's code may raise anything
        raise failed(error, module, noun) from error


@cache
def _entry_points() -> Any:
    """All there are. Reading them takes a few hundredths of a second, which only who asks has to wait for."""
    from importlib.metadata import entry_points

    return entry_points()


def _kind(package: str) -> str:
    return package.rpartition(".")[2]


def _own(package: str, function: str) -> list[str]:
    folder = Path(__file__).parent.parent.joinpath(*package.split("."))
    files = ((path, path.stat().st_mtime_ns) for path in folder.glob("*.py") if path.stem != "__init__")
    return sorted(path.stem for path, changed in files if _defines(path, changed, function))


@cache
def _defines(path: Path, changed: int, function: str) -> bool:
    """`changed` is when, so that a file is read again after that, and not before."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError):  # it is told of when it is loaded, with its file
        return True
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in body)
