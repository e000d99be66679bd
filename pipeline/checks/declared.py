"""The checked principles of a constitution: those whose `judge` is `rule`, with whom they are for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constitution.principles import Principle
from constitution.records import WEIGHT, Messages
from pipeline.checks import Checks

BESIDES = ("graded", "another")  # what the judge of code has in its options, and is no check


@dataclass(frozen=True)
class Declared:
    """`when`: checks of the last user turn, of the requests that it is for. `tags`: one of which a prompt has that it
    is for. `asks`: whether a model is asked about the request, too."""

    id: str
    title: str
    checks: Checks
    weight: int = WEIGHT
    when: Checks | None = None
    tags: tuple[str, ...] = ()
    asks: bool = False

    @property
    def told_by_text(self) -> bool:
        """Whether the dialogue alone says if it applies."""
        return not self.tags and not self.asks

    def applies(self, messages: Messages, tags: Iterable[str] | None = None) -> bool:
        """Whether it is for this request, as far as code can tell: `tags` None, they are not known."""
        if self.tags and tags is not None and not set(self.tags) & set(tags):
            return False
        return self.when is None or self.when.holds(messages, last_user_turn(messages)) is not False


def of_constitution(principles: Iterable[Principle]) -> list[Declared]:
    """Raises UserError where the checks of one are none."""
    found = []
    for p in principles:
        if p.judge is None or p.judge.method != "rule":
            continue
        options = {key: value for key, value in p.judge.options.items() if key not in BESIDES}
        when = Checks.of_json(p.when.rule_json) if p.when is not None and p.when.rule_json else None
        tags, asks = (p.when.tags, bool(p.when.ask)) if p.when is not None else ((), False)
        found.append(Declared(p.id, p.title, Checks.read(options), p.weight, when, tags, asks))
    return found


def last_user_turn(messages: Messages) -> str:
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
