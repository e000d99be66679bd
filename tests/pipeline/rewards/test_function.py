"""A Python function as a reward: found, called, and refused where it fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from pipeline import rewards

HELLO = [{"role": "user", "content": "Hello."}]
CODE = """
import threading

class Counter:
    calls = 0
    def __call__(self, prompts, answers):
        self.calls += 1
        return [len(p[-1]["content"]) + len(a) for p, a in zip(prompts, answers)]

length = Counter()
text = "no function"
released = threading.Event()

def hang(prompts, answers):
    released.wait(30)

def broken(prompts, answers):
    return [1 / 0]

def half(prompts, answers):
    return [1.0] * (len(answers) // 2)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory that modules are found in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("rules", "pack"):
            del sys.modules[name]


def spec(name: str, **options: Any) -> dict[str, Any]:
    return {"kind": "function", "name": name, **options}


def test_a_function_of_a_package_in_the_current_directory_rewards(here: Path) -> None:
    (here / "pack").mkdir()
    (here / "pack" / "__init__.py").write_text("")
    (here / "pack" / "rules.py").write_text(CODE)
    reward = rewards.build(spec("pack.rules:length"))
    assert reward.score([HELLO, HELLO], ["", "abc"]) == [6.0, 9.0]
    assert sys.modules["pack.rules"].length.calls == 1


def test_looking_a_function_up_does_not_run_its_module(here: Path) -> None:
    (here / "rules.py").write_text("raise SystemExit('run')\n")
    rewards.check(spec("rules:f"))
    rewards.fingerprint(spec("rules:f"))


def test_the_fingerprint_follows_the_source(here: Path) -> None:
    (here / "rules.py").write_text(CODE)
    before = rewards.fingerprint(spec("rules:length"))
    assert rewards.fingerprint(spec("rules:half")) != before
    (here / "rules.py").write_text(CODE + "\n# changed\n")
    assert rewards.fingerprint(spec("rules:length")) != before


def test_a_file_that_changed_is_what_is_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint is the new file's: the code must be, too, in a process that has run the old one."""
    (here / "rules.py").write_text("def length(prompts, answers):\n    return [1.0] * len(answers)\n")
    old = rewards.build(spec("rules:length"))
    (here / "rules.py").write_text("def length(prompts, answers):\n    return [20.0] * len(answers)\n")
    new = rewards.build(spec("rules:length"))
    assert (old.score([HELLO], ["a"]), new.score([HELLO], ["a"])) == ([1.0], [20.0])
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    (here / "rules.py").rename(elsewhere / "rules.py")
    monkeypatch.chdir(elsewhere)
    assert rewards.build(spec("rules:length")).fingerprint == new.fingerprint


def test_a_file_in_the_current_directory_hides_no_library(here: Path) -> None:
    (here / "json.py").write_text("raise RuntimeError")
    rewards.build(spec("json:loads"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rules:missing", "rules has no function missing"),
        ("rules:text", "rules has no function text"),
        ("failing:f", "importing failing failed: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_imported_or_called_is_refused(here: Path, name: str, message: str) -> None:
    (here / "rules.py").write_text(CODE)
    (here / "failing.py").write_text("1 / 0")
    with pytest.raises(UserError, match=f"reward function {name}: {message}"):
        rewards.build(spec(name))


def test_a_function_that_raises_or_answers_by_half_is_named(here: Path) -> None:
    (here / "rules.py").write_text(CODE)
    with pytest.raises(UserError, match="reward function rules:broken raised ZeroDivisionError") as told:
        rewards.build(spec("rules:broken")).score([HELLO], ["a"])
    assert isinstance(told.value.__cause__, ZeroDivisionError)  # whose traceback shows the line
    with pytest.raises(UserError, match="reward function rules:half returned 1 rewards for 2 answers"):
        rewards.build(spec("rules:half")).score([HELLO, HELLO], ["a", "b"])


ODD = """
import itertools, time

class Silent:
    def __repr__(self):
        raise RuntimeError("no text")
    __float__ = __repr__

def huge(prompts, answers):
    return [10 ** 5000] * len(answers)

def silent(prompts, answers):
    return [Silent()] * len(answers)

def endless(prompts, answers):
    return itertools.repeat(1.0)

def slow(prompts, answers):
    return (time.sleep(5) for _ in answers)

def failing(prompts, answers):
    yield 1.0
    raise KeyError("x")

def fine(prompts, answers):
    return (float(len(a)) for a in answers)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("huge", "a int that cannot be shown for the answer"),
        ("silent", "a Silent that cannot be shown for the answer"),
        ("endless", "returned 1002 .*rewards for 2 answers"),
        ("slow", "no answer within 0.3 s"),
        ("failing", "raised KeyError"),
    ],
)
def test_what_a_function_returns_crashes_and_holds_up_nothing(here: Path, name: str, message: str) -> None:
    (here / "rules.py").write_text(ODD)
    with pytest.raises(UserError, match=message):
        rewards.build(spec(f"rules:{name}", timeout=0.3)).score([HELLO, HELLO], ["a", "b"])
    assert rewards.build(spec("rules:fine")).score([HELLO], ["abc"]) == [3.0]


def test_a_function_that_hangs_is_given_up(here: Path) -> None:
    (here / "rules.py").write_text(CODE)
    reward = rewards.build(spec("rules:hang", timeout=0.05))
    with pytest.raises(UserError, match=r"rules:hang: no answer within 0.05 s for 1 answers"):
        reward.score([HELLO], ["a"])
    sys.modules["rules"].released.set()
