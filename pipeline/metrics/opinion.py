"""The label of two answers that anybody typed, term by term, with the first answer where they put it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from constitution.records import PROBABILITY
from pipeline.metrics import attribution
from pipeline.metrics.voting import Votes


@dataclass(frozen=True)
class Part:
    """A principle's part in a label. `shown_a`, `shown_b`: the probability that the first answer is the better, when it
    was shown as A and when it was shown as B. `moved`: what it adds to p, of p - 1/2. `without`: the outcome without
    it."""

    principle: str
    weight: int  # x 1e3
    standing: attribution.Standing
    shown_a: float
    shown_b: float
    moved: float
    without: str

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "weight": self.weight / 1000}


@dataclass(frozen=True)
class Opinion:
    """The label of two answers, term by term. `outcome`: first, second, tied or unreadable; `p`: that the first is the
    better. The heaviest part comes first."""

    outcome: str
    p: float
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "p": self.p, "principles": [part.as_dict() for part in self.parts]}


def opinion(votes: Votes, first: bool) -> Opinion:
    """Of votes on one comparison. `first`: the first answer is the comparison's, too (digests decide that)."""
    account = attribution.account(votes, 0)
    p = account.label.p / PROBABILITY
    parts = []
    for i, part in enumerate(account.parts):
        one, other = int(votes.p1[0, i]) / PROBABILITY, int(votes.p2[0, i]) / PROBABILITY
        shown_a, shown_b = (one, other) if first else (1 - other, 1 - one)
        moved = float(part.moved if first else -part.moved)
        without = _turned(part.without, first)
        parts.append(Part(part.principle, part.weight, part.standing, shown_a, shown_b, moved, without))
    parts.sort(key=lambda part: -abs(part.moved))
    return Opinion(_turned(account.outcome, first), p if first else 1 - p, tuple(parts))


def _turned(outcome: str, first: bool) -> str:
    return outcome if first else {"first": "second", "second": "first"}.get(outcome, outcome)
