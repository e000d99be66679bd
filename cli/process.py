"""Around a command: signals, standard streams that are closed, full or narrow, and the end of the process.

The first Ctrl-C, SIGTERM or SIGHUP (a closed window) interrupts the command, which keeps what it has and says how to go
on; a second one ends the process at once. The exit code is 128 and the signal's number: 130, 143, 129.

What is told on standard error never fails a command. A result that cannot be written is a failure of its own: a command
whose reader went away (`| head`) or whose disk is full ends with exit code 1, and what it did stays done.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import BinaryIO, NoReturn, TextIO, cast

PATIENCE = 4.0  # seconds that the end of the process may take, with what other libraries do there
AT_ONCE = 1.0  # seconds for a process that is told a second time
HANDLED = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not on every system


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end."""


class Signals:
    """What signals have asked of this process."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.told = False  # a line about it was printed

    @property
    def code(self) -> int:
        return 128 + (self.asked or signal.SIGINT)

    def install(self) -> None:
        """Listen. A signal that whoever started this process has it ignore (nohup, `&` in a script) stays ignored."""
        for name in HANDLED:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        if self.asked is not None:
            _end_in(AT_ONCE, self.code)
        self.asked = signal.Signals(number)
        raise Interrupted(self.asked.name)

    def leave(self, code: int) -> None:
        """The command is over: a signal now ends what is left of the process, which has a few seconds anyway."""
        for name in HANDLED:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == self:
                signal.signal(number, lambda *_: os._exit(code))
        _end_in(PATIENCE, code)


signals = Signals()


def prepare_streams() -> None:
    """Make standard streams that can be used, whatever they are: one that is closed leads nowhere, a character that
    one has no bytes for is written as its code, and standard error takes what it can get."""
    for descriptor in (0, 1, 2):  # else the next file that is opened, the store, would be standard output
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _Result(*_of(sys.stdout, 1), errors="backslashreplace", line_buffering=_is_terminal(1))
    sys.stderr = _Told(*_of(sys.stderr, 2), errors="backslashreplace", line_buffering=True)


def _of(stream: TextIO | None, descriptor: int) -> tuple[BinaryIO, str]:
    """The bytes under a stream, and their encoding."""
    if stream is None:  # it was closed
        return open(descriptor, "wb", closefd=False), "utf-8"
    assert isinstance(stream, io.TextIOWrapper)
    encoding = stream.encoding
    return cast(BinaryIO, stream.detach()), encoding


def _is_terminal(descriptor: int) -> bool:
    return os.isatty(descriptor)


class Unwritten(Exception):
    """The result cannot be written to standard output. `why` is empty where its reader went away."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Result(io.TextIOWrapper):
    """Standard output. That it cannot be written is told apart from all other errors of the disk."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except (OSError, ValueError) as error:
            raise unwritten(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except (OSError, ValueError) as error:
            raise unwritten(error) from None


def unwritten(error: OSError | ValueError) -> Unwritten:
    """And what is still to be written goes nowhere, so that the interpreter does not try again and complain."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    return Unwritten("" if isinstance(error, BrokenPipeError) else str(getattr(error, "strerror", None) or error))


class _Told(io.TextIOWrapper):
    """Standard error. What it cannot take is lost, and nothing else is."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().flush()


def _end_in(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
