"""The contract of a judge: it answers one question about one comparison, in both orders, and nothing else.

To add one, write `pipeline/judges/x.py` with a function

    def build(role: Role, options: Mapping[str, Any], another: Another) -> Judge

or name such a module in the entry points of a package (`pipeline.plugins`); settings then say `method = "x"` in
`[judge]`. What a `Verdict` holds (p1, p2: the probability, x 1e9, of the comparison's first answer, shown as A and as
B) and a `Question` (what is read, and how: all of it is hashed) is in `constitution/records.py`; see `choice.py`.
`options` are the judge's own (`judge_options` in settings); one that it does not know is a UserError. A judge may ask
several engines: `another` makes a further role of the role settings that lie in `options`. Engines belong to whoever
gave the roles, so a judge closes none.

A judge that remembers nothing of one call in the next may say so, `apart = True`: where its engines wait for another
machine, it is then asked several batches at once, from several threads.

A judge returns evidence (probabilities and the mass they hold), the reasons it was given, and what it used. What counts
as unreadable, tied or an abstention is the label rule's business, so a judge never guesses and never rounds.

Reasons are what a model wrote: hostile until proven otherwise. They are stored as they came (control characters, lone
surrogates and all) and nothing reads them but people; where one goes into a further question, it is text like any
other, never part of a template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from constitution.principles import Principle
from constitution.records import Comparison, Id, Messages, Question, Reason, Verdict
from pipeline.asking import Role
from pipeline.engines.engine import Refused

# A further role of a judge, from a mapping of role settings (the keys of `[judge]` in precept.toml: kind, model, ...).
# Raises UserError for settings that are none.
Another: TypeAlias = Callable[[Mapping[str, Any]], Role]


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison with its texts, and the principles to be asked about it. `tags`: the prompt's, by which a principle
    may apply to it or not."""

    comparison: Comparison
    messages: Messages
    first: str
    second: str
    principles: tuple[Principle, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Used:
    """What was asked of engines, all of them together: requests (a choice of one chat, one generation, one score),
    tokens of their prompts, and tokens that were generated."""

    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.requests + other.requests, self.prompt_tokens + other.prompt_tokens, self.tokens + other.tokens
        )


@dataclass(frozen=True, slots=True)
class Omitted:
    """A question about a comparison that the judge's engine refused in one order or both: too long for it, say. That
    is no verdict, and nothing of it is stored: a later run asks again."""

    question: Id
    comparison: Id
    refused: Refused


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of asking a judge. `verdicts`: one for each principle of each case, in order, but for those that are
    `omitted`. `reasons`: those that it has, in any order and of any of the verdicts; a judge that gives none has
    none."""

    verdicts: Sequence[Verdict]
    reasons: Sequence[Reason] = ()
    used: Used = Used()
    omitted: Sequence[Omitted] = ()


@runtime_checkable
class Judge(Protocol):
    @property
    def fingerprint(self) -> str:
        """Digest of every model that it asks and of how their answers are read."""

    def question(self, principle: Principle) -> Question: ...

    def judge(self, cases: Sequence[Case]) -> Judged:
        """Ask each principle of each case, in both orders. Raises EngineError where an engine fails."""
