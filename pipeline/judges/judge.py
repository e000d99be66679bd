"""The contract of a judge: it answers one question about one comparison, in both orders, and nothing else.

To add one, write `pipeline/judges/x.py` with a function `build(role: Role, options: Mapping) -> Judge`; settings then
say `judge: {method: x}`. A judge returns evidence (probabilities and the mass they hold). What counts as unreadable,
tied or not bearing on the pair is the label rule's business, so a judge never guesses and never rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from constitution.principles import Principle
from constitution.records import Comparison, Messages, Question, Verdict


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison with its texts, and the principles to be asked about it."""

    comparison: Comparison
    messages: Messages
    first: str
    second: str
    principles: tuple[Principle, ...]


@runtime_checkable
class Judge(Protocol):
    @property
    def fingerprint(self) -> str:
        """Digest of the model and of how its answer is read."""

    def question(self, principle: Principle) -> Question: ...

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict for each principle of each case, in order. Two model questions a verdict: both orders."""
