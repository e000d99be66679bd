"""What a reviewer is shown and what is kept of their answer, as records; `as_dict` is their JSON.

Each reviewer sees the two answers on sides of their own, and nothing of what the judge said. What is done with these is
`service/actions/review.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from constitution.errors import UserError
from constitution.records import Id, Messages, SpotAnswer, SpotCheck, make_id
from pipeline.review import shows_first_left
from service.queries.judged import Judged
from storage.claims import REVIEW, Lease

Choice = Literal["a", "b", "tie", "skip"]


@dataclass(frozen=True)
class Asked:
    """A principle that the judge was asked about the pair."""

    principle: str
    title: str
    question: str


@dataclass(frozen=True)
class Item:
    """A pair as its reviewer sees it. `answered` and `left`: pairs of this queue that they have, and have not,
    answered; this one is among the left. `sample`: how it was drawn. `token`: to be handed back with the answer.
    `expires`: until when it is held, in Unix seconds."""

    token: str
    expires: int
    comparison: str
    run: str
    reviewer: str
    sample: str
    dialogue: Messages
    a: str
    b: str
    principles: tuple[Asked, ...]
    answered: int
    left: int

    @property
    def place(self) -> int:
        return self.answered + 1

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "place": self.place}


@dataclass(frozen=True)
class Answered:
    """What is on disk. `event`: its id in the history."""

    event: str
    at: str
    reviewer: str
    comparison: str
    choice: Choice
    reason: str
    sample: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Held:
    """A token read back."""

    sample: str
    comparison: Id
    lease: Lease

    @classmethod
    def of(cls, token: str, who: str) -> Held:
        """Raises UserError where a token is cut, or was made for somebody else: the sides would be theirs."""
        try:
            sample, *parts = token.split(".")
            comparison, fence, shown_to = map(bytes.fromhex, parts)
        except ValueError:
            raise UserError("this is not the token of a pair that was shown; ask for the next pair") from None
        if shown_to != _shown_to(who, sample, comparison, fence):
            raise UserError(f"this pair was not shown to {who}; ask for the next pair")
        return cls(sample, comparison, Lease(REVIEW, who, (comparison,), fence, 0))


def _token(sample: str, lease: Lease) -> str:
    (comparison,) = lease.ids
    parts = (comparison, lease.fence, _shown_to(lease.worker, sample, comparison, lease.fence))
    return ".".join([sample, *(part.hex() for part in parts)])


def _shown_to(who: str, sample: str, comparison: Id, fence: bytes) -> bytes:
    return make_id("shown", who=who, sample=sample, comparison=comparison, fence=fence)[:4]


def item_of(about: Judged, lease: Lease, sample: str, answered: int, waiting: int) -> Item:
    who, (comparison,) = lease.worker, lease.ids
    (pair,) = about.store.pairs([comparison])
    a, b = (pair.first, pair.second) if shows_first_left(who, comparison) else (pair.second, pair.first)
    asked = {name for names in about.principles.values() for name in names}
    principles = tuple(Asked(p.id, p.title, p.comparison) for p in about.constitution if p.id in asked)
    return Item(
        token=_token(sample, lease),
        expires=lease.expires,
        comparison=comparison.hex(),
        run=about.run.id.hex(),
        reviewer=who,
        sample=sample,
        dialogue=pair.messages,
        a=a,
        b=b,
        principles=principles,
        answered=answered,
        left=waiting,
    )


def side(who: str, comparison: Id, choice: str) -> SpotAnswer:
    if choice == "tie" or choice == "skip":
        return choice  # type: ignore[return-value]
    return "first" if (choice == "a") == shows_first_left(who, comparison) else "second"


def _choice(check: SpotCheck) -> Choice:
    if check.answer == "tie" or check.answer == "skip":
        return check.answer
    return "a" if (check.answer == "first") == shows_first_left(check.reviewer, check.comparison) else "b"


def answered_of(check: SpotCheck) -> Answered:
    return Answered(
        check.event, check.at, check.reviewer, check.comparison.hex(), _choice(check), check.reason, check.sampled_by
    )
