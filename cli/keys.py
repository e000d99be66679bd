"""Keys of a terminal, without Enter; or lines of standard input, where that is none."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Reader:
    """`key`: one key in lower case, empty at the end of the input. `line`: a line of text. `forget`: drop what was
    typed ahead."""

    key: Callable[[str], str]
    line: Callable[[str], str]
    forget: Callable[[], None]


@contextmanager
def keys() -> Iterator[Reader]:
    """Keys of the terminal, without Enter; or lines of standard input where it is none, or the system has no keys."""
    if sys.stdin.isatty() and _has_keys():
        with _terminal() as reader:
            yield reader
    else:
        yield Reader(key=lambda prompt: _line(prompt)[:1].lower(), line=_line, forget=lambda: None)


def _has_keys() -> bool:
    try:
        import termios  # noqa: F401 - Windows has none
        import tty  # noqa: F401
    except ImportError:
        return False
    return True


def _line(prompt: str) -> str:
    """The next line that is not empty; "" at the end of the input."""
    print(prompt, end="", flush=True)
    for line in sys.stdin:
        if line.strip():
            return line.strip()
    return ""


@contextmanager
def _terminal() -> Iterator[Reader]:
    import termios
    import tty

    device = sys.stdin.fileno()
    before = termios.tcgetattr(device)

    def key(prompt: str) -> str:
        print(prompt, end="", flush=True)
        while True:
            pressed = os.read(device, 64).decode("utf-8", "ignore")
            if pressed in ("", "\x04"):  # the end, or Ctrl-D
                print()
                return ""
            # An arrow key is several characters, the last of them a letter; so is a paste. Neither is an answer.
            if len(pressed) == 1 and pressed.isprintable():
                print(pressed)
                return pressed.lower()

    def line(prompt: str) -> str:
        termios.tcsetattr(device, termios.TCSADRAIN, before)
        try:
            return input(prompt).strip()
        except EOFError:
            return ""
        finally:
            tty.setcbreak(device, termios.TCSADRAIN)

    def forget() -> None:
        if select.select([device], [], [], 0)[0]:
            termios.tcflush(device, termios.TCIFLUSH)

    tty.setcbreak(device, termios.TCSADRAIN)
    try:
        yield Reader(key, line, forget)
    finally:
        termios.tcsetattr(device, termios.TCSADRAIN, before)
