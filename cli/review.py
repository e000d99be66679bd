"""`precept review`: a person says which of two answers is better, blind to what the judge said.

One key an answer, and each answer is on disk before the next pair is shown. The sides are shuffled for each reviewer.
On a pipe, a line is a key. What the models wrote is shown, never obeyed.
"""

from __future__ import annotations

import os
import secrets
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import RunId, SettingsFile, load, store_of

if TYPE_CHECKING:
    from rich.console import Console

    from constitution.records import Id, SpotCheck
    from service.queries.judged import Judged


class Sample(StrEnum):
    random = "random"
    uncertain = "uncertain"
    flips = "flips"


HELP = """\
A or B   that answer is better          T   they are equally good
S        skip: you cannot tell          U   undo your last answer and see that pair again
R        write a reason, then answer    Q   quit: all your answers are kept
?        this help"""


def review(
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who you are; the user who is logged in.")] = "",
    sample: Annotated[Sample, typer.Option(help="Random pairs alone measure the judge.")] = Sample.random,
    count: Annotated[int, typer.Option("-n", min=1, help="How many pairs.")] = 20,
    run: RunId = "",
    reveal: Annotated[bool, typer.Option("--reveal", help="After each answer show what the judge said.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Say which answers are better, to find out how far people agree with the judge.

    Example: precept review --by ada -n 50
    """
    from service.settings import process_user

    with store_of(load(settings)) as store:
        from service.queries import judged

        session = Session(judged.newest(store, run), by or process_user(), sample, count, reveal)
        with keys() as read:
            session.work(read)


@dataclass
class Session:
    """One sitting. `Key` readers are handed to `work`: a terminal's, or lines."""

    judged: Judged
    reviewer: str
    sample: Sample
    count: int
    reveal: bool
    answered: list[SpotCheck] = field(default_factory=list)  # by this reviewer about this run, oldest first

    def work(self, read: Reader) -> None:
        mine = [c for c in self.judged.store.spot_checks() if c.reviewer == self.reviewer]
        seen = {c.comparison for c in mine}
        run = set(self.judged.comparisons)
        self.answered = sorted((c for c in mine if c.comparison in run), key=lambda c: c.event)
        queue = [c for c in self._order() if c not in seen][: self.count]
        if not queue:
            self._say(f"there is no pair left that {self.reviewer} has not answered ({self.sample})")
            return
        self._say(f"reviewing as {self.reviewer}: {len(queue)} pairs ({self.sample}); ? is help, Q quits")
        done = 0
        while queue:
            outcome = self._ask(queue[0], done + 1, done + len(queue), read)
            if outcome == "quit":
                break
            if outcome == "undo":
                queue.insert(0, self._undo())
                done = max(0, done - 1)
            else:
                queue.pop(0)
                done += 1
        self._say(f"{done} answered; all are kept")

    def _order(self) -> list[Id]:
        from pipeline import review

        judged = self.judged
        verdicts = []
        if self.sample is Sample.flips:
            verdicts = list(judged.store.verdicts(judged.comparisons, list(judged.weights)))
        labels = judged.labels if self.sample is Sample.uncertain else {}
        return review.order(self.sample.value, judged.comparisons, labels, verdicts, seed=0)

    def _ask(self, comparison: Id, number: int, total: int, read: Reader) -> str:
        from pipeline.review import shows_first_left

        read.forget()  # keys pressed before a pair is seen are not about it
        first_left = shows_first_left(self.reviewer, comparison)
        self._show(comparison, first_left, f"{number} of {total}")
        reason = ""
        while True:
            key = read.key("A, B, T, S, U, R, ?, Q: ")
            if key in ("q", ""):
                return "quit"
            if key == "?":
                self._say(HELP)
            elif key == "r":
                reason = read.line("reason: ")
            elif key == "u":
                if self.answered:
                    return "undo"
                self._say("there is nothing to undo")
            elif key in ("a", "b", "t", "s"):
                self._keep(comparison, key, first_left, reason)
                return "answered"

    def _keep(self, comparison: Id, key: str, first_left: bool, reason: str) -> None:
        if key in ("t", "s"):
            answer = "tie" if key == "t" else "skip"
        else:
            answer = "first" if (key == "a") == first_left else "second"
        check = self.judged.store.add_spot_check(
            self.reviewer, comparison, answer, reason=reason, sampled_by=self.sample.value,  # type: ignore[arg-type]
            key=f"review:{secrets.token_hex(16)}",
        )  # fmt: skip
        self.answered.append(check)
        self._say("kept: " + {"t": "a tie", "s": "skipped"}.get(key, f"{key.upper()} is better"))
        if self.reveal:
            self._say(f"the judge: {self._verdict(comparison, first_left)}")

    def _undo(self) -> Id:
        last = self.answered.pop()
        self.judged.store.undo_spot_check(self.reviewer, last.event, key=f"undo:{last.event}")
        self._say("taken back")
        return last.comparison

    def _verdict(self, comparison: Id, first_left: bool) -> str:
        label = self.judged.labels[comparison]
        if label.preferred_first is None:
            return label.state
        return "A is better" if label.preferred_first == first_left else "B is better"

    def _show(self, comparison: Id, first_left: bool, place: str) -> None:
        from rich.panel import Panel

        from cli.text import literal

        (pair,) = self.judged.store.pairs([comparison])
        left, right = (pair.first, pair.second) if first_left else (pair.second, pair.first)
        dialogue = "\n\n".join(f"{m.role}: {m.content}" for m in pair.messages)
        cli = _console()
        cli.rule(literal(place))
        cli.print(literal(dialogue))
        for name, text in (("A", left), ("B", right)):
            cli.print(Panel(literal(text), title=name, title_align="left"))

    def _say(self, text: str) -> None:
        from cli.text import literal

        _console().print(literal(text))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


# --- keys --------------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """`key`: one key in lower case, empty at the end of the input. `line`: a line of text. `forget`: drop what was
    typed ahead."""

    key: Callable[[str], str]
    line: Callable[[str], str]
    forget: Callable[[], None]


@contextmanager
def keys() -> Iterator[Reader]:
    """Keys of the terminal, without Enter; or lines of standard input where it is none."""
    if sys.stdin.isatty():
        with _terminal() as reader:
            yield reader
    else:
        yield Reader(key=lambda prompt: _line(prompt)[:1].lower(), line=_line, forget=lambda: None)


def _line(prompt: str) -> str:
    """The next line that is not empty; "" at the end of the input."""
    print(prompt, end="", flush=True)
    for line in sys.stdin:
        if line.strip():
            return line.strip()
    return ""


@contextmanager
def _terminal() -> Iterator[Reader]:
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
