"""A Python function as the reward: `name: "package.module:function"`, called as `function(prompts, answers)`.

`prompts` is a list of dialogues (lists of {"role", "content"}), `answers` a list of texts, and what comes back a list
of numbers in their order. The module is the user's own code, run in this process: it is looked for beside what is
installed, and in the current directory, each time anew: a process that runs for weeks uses the file as it is. Its
fingerprint is that of its name and of its file, not of what it imports.

A call that takes longer than `timeout` seconds is given up. Its thread cannot be stopped and ends with the process.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from constitution.errors import UserError
from constitution.records import make_id
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue

Function = Callable[[Sequence[Dialogue], Sequence[str]], Any]
MANY = 1_000  # rewards more than answers, after which a generator is not read on
_imported: set[str] = set()  # modules that were imported for their functions, and by nobody else before
PATTERN = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$"


class FunctionOptions(Options):
    name: str = Field(pattern=PATTERN)  # package.module:function
    timeout: float = Field(60.0, gt=0)  # seconds a call may take


def check(options: Mapping[str, Any]) -> None:
    """The module is there. It is not imported: that would run it."""
    _file(read(FunctionOptions, "function", options).name)


def fingerprint(options: Mapping[str, Any]) -> str:
    name = read(FunctionOptions, "function", options).name
    source = hashlib.sha256(_file(name).read_bytes()).hexdigest()
    return make_id("reward_function", name=name, source=source).hex()


def build(options: Mapping[str, Any]) -> FunctionReward:
    given = read(FunctionOptions, "function", options)
    digest = fingerprint(options)
    module, _, function = given.name.partition(":")
    if module not in sys.modules:
        _imported.add(module)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # the user's code may raise anything
        raise UserError(f"reward function {given.name}: importing {module} failed: {_told(error)}") from error
    if not callable(found):
        raise UserError(f"reward function {given.name}: {module} has no function {function}")
    return FunctionReward(given.name, found, given.timeout, digest)


class FunctionReward:
    """See the module."""

    def __init__(self, name: str, function: Function, timeout: float, digest: str) -> None:
        self.name, self.fingerprint = name, digest
        self._function, self._timeout = function, timeout

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        """Whatever the function returns. Raises UserError where it raises, or takes too long."""
        outcome: list[Any] = []

        def call() -> None:
            try:
                found = self._function(list(prompts), list(answers))
                if isinstance(found, Iterator):  # it is run by reading it: here, where time is counted
                    found = list(itertools.islice(found, len(answers) + MANY))
                outcome[:] = [found, None]
            except BaseException as error:
                outcome[:] = [None, error]

        thread = threading.Thread(target=call, name="reward-function", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if not outcome:
            raise UserError(
                f"reward function {self.name}: no answer within {self._timeout:g} s for {len(answers)} answers; make "
                "it faster, or allow it more seconds with timeout"
            )
        returned, error = outcome
        if isinstance(error, UserError):
            raise error
        if error is not None:
            raise UserError(f"reward function {self.name} raised {_told(error)}; mend it for these answers") from error
        rewards: list[float] = returned  # looked at by `checked`
        return rewards

    def close(self) -> None:
        pass


def _file(name: str) -> Path:
    """The source of a function's module. Raises UserError where there is none."""
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
        raise UserError(f"reward function {name}: looking for {module} failed: {_told(error)}") from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserError(
            f"reward function {name}: there is no module {module}; put {module.replace('.', '/')}.py in the current "
            "directory, or install it"
        )
    return Path(spec.origin)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
