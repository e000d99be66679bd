"""A function of the user's own, by name: `package.module:function`, as a reward or as a check.

Its module is run in this process. It is looked for beside what is installed, and in the current directory, each time
anew: a process that runs for weeks uses the file as it is. Its source is that of its file, not of what it imports.

A call that takes longer than it is allowed is given up. Its thread cannot be stopped and ends with the process.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from constitution.errors import UserError

Function: TypeAlias = Callable[..., Any]
NAME = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$")
MANY = 1_000_000  # values after which a generator is not read on
_imported: set[str] = set()  # modules that were imported for their functions, and by nobody else before


def source(name: str, noun: str) -> str:
    """The digest of the file of a function's module, which is not imported: that would run it. Raises UserError where
    there is none."""
    return hashlib.sha256(file(name, noun).read_bytes()).hexdigest()


def file(name: str, noun: str) -> Path:
    """The file of a function's module. Raises UserError where there is none."""
    module = name.partition(":")[0]
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that no file here hides a library
    importlib.invalidate_caches()
    if module in _imported:
        sys.modules.pop(module, None)  # else its file of then is found again, and its code of then is run
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # a package above it is imported, which may raise anything
        raise UserError(f"{noun} {name}: looking for {module} failed: {told(error)}") from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(
            f"{noun} {name}: there is no module {module}; put {module.replace('.', '/')}.py in the current "
            "directory, or install it"
        )
    return Path(spec.origin)


def load(name: str, noun: str) -> Function:
    """The function itself. Its module is imported, which runs it. Raises UserError where that fails."""
    module, _, function = name.partition(":")
    file(name, noun)
    if module not in sys.modules:
        _imported.add(module)
    try:
        found: Function | None = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # the user's code may raise anything
        raise UserError(f"{noun} {name}: importing {module} failed: {told(error)}") from error
    if not callable(found):
        raise UserError(f"{noun} {name}: {module} has no function {function}")
    return found


def call(
    function: Function, arguments: Sequence[Any], name: str, seconds: float, of: str = "", most: int = MANY
) -> Any:
    """Whatever the function returns; what an iterator gives, as a list of at most `most`. Raises UserError where it
    raises, or takes longer than so many seconds (`of`: what they were for)."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            found = function(*arguments)
            if isinstance(found, Iterator):  # it is run by reading it: here, where time is counted
                found = list(itertools.islice(found, most))
            outcome[:] = [found, None]
        except BaseException as error:
            outcome[:] = [None, error]

    thread = threading.Thread(target=run, name="user-function", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        what = f" for {of}; make it faster, or allow it more seconds with timeout" if of else "; make it faster"
        raise UserError(f"{name}: no answer within {seconds:g} s{what}")
    returned, error = outcome
    if isinstance(error, UserError):
        raise error
    if error is not None:
        raise UserError(f"{name} raised {told(error)}; mend it for these answers") from error
    return returned


def share(value: Any, name: str) -> float | None:
    """What a check's function returned: true or false, or how well it is kept, from 0 to 1; None, not known. Raises
    UserError for anything else."""
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except Exception:  # whatever it is, its own code decides what this raises
        number = math.nan
    if 0 <= number <= 1:
        return number
    raise UserError(f"{name} returned a {type(value).__name__} that is no share: return true, false, 0 to 1, or None")


def told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
