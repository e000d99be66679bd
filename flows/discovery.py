"""Flows by name: a module `flows/x.py` that has a Prefect flow named `x`. One file added is one flow more.

Names are found without importing anything, so that listing them is instant.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flows
from constitution.errors import UserError
from pipeline import plugins
from service.work.progress import Progress


def names() -> list[str]:
    """The names of all flows: those of the folder, and what installed packages add (`pipeline.plugins`)."""
    return sorted({*_own(), *plugins.installed("flows")})


def _own() -> list[str]:
    files = (path for folder in flows.__path__ for path in Path(folder).glob("*.py"))
    return sorted({path.stem for path in files if _is_flow(path)})


def load(name: str) -> Callable[..., Any]:
    """The flow of that name, imported now. Raises UserError where there is none."""
    plugin = plugins.find("flows", _own(), name, "flow")
    own = f"{flows.__name__}.{name}"
    try:
        module = plugins.imported(plugin, name, "flow") if plugin else importlib.import_module(own)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file that somebody dropped in may raise anything
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"the flow {name!r} (flows/{name}.py) cannot be imported: {said}") from error
    found: Callable[..., Any] = getattr(module, name)
    return found


def run(name: str, file: Path | None, flags: Mapping[str, Any], *, who: str, report: Progress | None = None) -> Any:
    """Run a flow here, to its result. A flow says by its parameters what it takes besides `file` and `flags`: `who`
    started it, and the `report` that is told how far it is. Where no Prefect server is to be had, it runs without."""
    flow = load(name)
    takes = inspect.signature(flow).parameters
    if len(takes) < 2:
        raise UserError(
            f"the flow {name!r} takes {', '.join(takes) or 'nothing'}; it must take file (of settings) and flags, as "
            "those in flows/ do: def x(file: str | None = None, flags: dict[str, Any] | None = None)"
        )
    extra = {key: value for key, value in (("who", who), ("report", report)) if key in takes}
    given = str(file) if file else None, dict(flags)
    if not hasattr(flow, "fn"):  # a plain function
        return flow(*given, **extra)
    from flows import server

    with server.watched():
        return server.through(flow, *given, **extra)


def entrypoint(name: str) -> str:
    """Where Prefect finds a flow, by module: the same in a checkout and where precept is installed."""
    plugin = plugins.find("flows", _own(), name, "flow")
    return f"{plugin.module if plugin else f'{flows.__name__}.{name}'}.{name}"


def _is_flow(path: Path) -> bool:
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError):  # it is told of when it is loaded, with its file
        return True
    functions = (node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(node.name == path.stem and any(map(_decorates, node.decorator_list)) for node in functions)


def _decorates(decorator: ast.expr) -> bool:
    """`@flow`, `@flow(...)`, `@prefect.flow` or `@prefect.flow(...)`."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")) == "flow"
