"""`precept review`: a person says which of two answers is better, blind to what the judge said.

One key an answer, and each answer is on disk before the next pair is shown. The sides are shuffled for each reviewer.
On a pipe, a line is a key. What the models wrote is shown, never obeyed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.keys import Reader, keys
from cli.options import RunId, SettingsFile, load, store_of
from constitution.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from service.actions.review_records import Item
    from service.queries.judged import Judged


class Sample(StrEnum):
    random = "random"
    uncertain = "uncertain"
    flips = "flips"


CHOICES = {"t": "tie", "s": "skip", "f": "neither"}
SAID = {"t": "a tie", "s": "skipped", "f": "neither is acceptable"}
HELP = """\
A or B   that answer is better          T   they are equally good
F        neither is acceptable          S   skip: you cannot tell
1 to 9   the principle that decided     P   the principles, with their numbers
R        write a reason, then answer    W   write what would have been a good answer
U        undo your last answer and see that pair again
Q        quit: all your answers are kept   ?   this help"""


def review(
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who you are; the user who is logged in.")] = "",
    sample: Annotated[Sample, typer.Option(help="Random pairs alone measure the judge.")] = Sample.random,
    count: Annotated[int, typer.Option("-n", min=1, help="How many pairs.")] = 20,
    run: RunId = "",
    ask: Annotated[
        str, typer.Option(metavar="PRINCIPLE", help="Ask about one principle alone: kept apart from the whole.")
    ] = "",
    reveal: Annotated[bool, typer.Option("--reveal", help="After each answer show what the judge said.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Say which answers are better, to find out how far people agree with the judge.

    Example: precept review --by ada -n 50
    """
    from service.settings import process_user

    with store_of(load(settings)) as store:
        from service.queries import judged

        session = Session(judged.newest(store, run), by or process_user(), sample.value, count, reveal, ask)
        with keys() as read:
            session.work(read)


@dataclass
class Session:
    """One sitting. What a pair is and who holds it is `service.actions.review`'s; here are its keys and its words."""

    about: Judged
    reviewer: str
    sample: str
    count: int
    reveal: bool
    ask: str = ""
    skipped: int = 0
    held: dict[str, str] = field(default_factory=dict)  # by pair, the token of each that is shown and not answered

    def work(self, read: Reader) -> None:
        from service.actions import review

        left = review.left(self.about.store, self.about, self.reviewer, self.sample, asked=self.ask)
        if not left:
            self._say(f"there is no pair left that {self.reviewer} has not answered ({self.sample})")
            return
        self.count = min(self.count, left)
        run = self.about.run.id.hex()[:12]
        self._say(f"reviewing as {self.reviewer}: {self.count} pairs ({self.sample}) of run {run}; ? is help, Q quits")
        try:
            done = self._go_through(read)
        finally:
            for token in self.held.values():
                review.release(self.about.store, self.reviewer, token)
        skipped = f", {self.skipped} of them skipped" if self.skipped else ""
        self._say(f"{done} answered{skipped}; all are kept")

    def _go_through(self, read: Reader) -> int:
        """Returns how many were answered in this sitting."""
        done, item = 0, self._next()
        while item is not None:
            key, words = self._ask(item, f"{done + 1} of {self.count}", read)
            if key == "quit":
                return done
            if key == "u":
                before = self._undo()
                if before is not None:
                    self.count += done == 0  # an answer of an earlier sitting
                    done, item = max(0, done - 1), before
                continue
            done += self._keep(item, key, words)
            self.skipped += key == "s"
            if done == self.count:
                return done
            item = self._next()
        self._say("others are at the pairs that are left: come back in a while")
        return done

    def _next(self) -> Item | None:
        from service.actions import review

        item = review.next_item(self.about.store, self.about, self.reviewer, self.sample, asked=self.ask)
        return self._shown(item)

    def _undo(self) -> Item | None:
        from service.actions import review

        try:
            item = review.undo(self.about.store, self.about, self.reviewer, secrets.token_hex(16), asked=self.ask)
        except UserError as error:
            self._say(str(error))
            return None
        self._say("taken back" if item is not None else "taken back; somebody else is at that pair now")
        return self._shown(item)

    def _shown(self, item: Item | None) -> Item | None:
        if item is not None:
            self.held[item.comparison] = item.token
        return item

    def _ask(self, item: Item, place: str, read: Reader) -> tuple[str, dict[str, str]]:
        """The key of an answer, `u` or `quit`; and what is kept with it."""
        read.forget()  # keys pressed before a pair is seen are not about it
        self._show(item, place)
        words: dict[str, str] = {}
        while True:
            key = read.key("A, B, T, F, S, U, 1-9, R, ?, Q: ")
            if key in ("q", ""):
                return "quit", {}
            if key == "?":
                self._say(HELP)
            elif key == "p":
                self._say("\n".join(f"{n}  {p.title}: {p.question}" for n, p in enumerate(item.principles, 1)))
            elif key == "r":
                words["reason"] = read.line("reason: ")
            elif key == "w":
                words["rewrite"] = read.line("a good answer: ")
            elif key.isdecimal() and 0 < int(key) <= len(item.principles):
                decided = item.principles[int(key) - 1]
                words["principle"] = decided.principle
                self._say(f"decided by: {decided.title}")
            elif key in ("a", "b", "u", *CHOICES):
                return key, words
            else:
                self._say(f"{key} is none of the keys, and nothing was kept; ? is help")

    def _keep(self, item: Item, key: str, words: dict[str, str]) -> bool:
        """Whether the answer was kept; it is not where the pair went to somebody else meanwhile."""
        from service.actions import review

        store, choice = self.about.store, CHOICES.get(key, key)
        self.held.pop(item.comparison)
        try:
            review.answer(
                store, self.reviewer, item.token, secrets.token_hex(16), choice, words.get("reason", ""),
                principle=words.get("principle", ""), rewrite=words.get("rewrite", ""), run=self.about,
            )  # fmt: skip
        except UserError as error:
            self._say(str(error))
            return False
        self._say("kept: " + SAID.get(key, f"{key.upper()} is better"))
        if self.reveal:
            said = review.judge_says(store, self.about, self.reviewer, item.comparison)
            self._say("the judge: " + (f"{said.upper()} is better" if said in ("a", "b") else said))
        return True

    def _show(self, item: Item, place: str) -> None:
        from rich.panel import Panel

        from cli.text import literal

        screen = _console()
        screen.rule(literal(place))
        if item.asked:
            screen.print(literal(item.question))
        screen.print(literal("\n\n".join(f"{m.role}: {m.content}" for m in item.dialogue)))
        for name, text in (("A", item.a), ("B", item.b)):
            screen.print(Panel(literal(text), title=name, title_align="left"))

    def _say(self, text: str) -> None:
        from cli.text import literal

        _console().print(literal(text))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
