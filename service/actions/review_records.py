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

Choice = Literal["a", "b", "tie", "skip", "neither"]
NO_SIDE = ("tie", "skip", "neither")


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
    `expires`: until when it is held, in Unix seconds. `asked`: the one principle that is asked about, none where it is
    the whole constitution. `tags`: of the prompt."""

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
    asked: str = ""
    tags: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What is asked about the pair."""
        of_one = (p.question for p in self.principles if p.principle == self.asked)
        return next(of_one, "Which answer follows the principles better?")

    @property
    def place(self) -> int:
        return self.answered + 1

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "place": self.place}


@dataclass(frozen=True)
class Progress:
    """Of a queue: pairs that a reviewer has, and has not, answered. `today`: what they answered or took back today, in
    any queue, and `seconds` how long they were at it, pauses left out."""

    answered: int
    left: int
    today: int
    seconds: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    principle: str = ""
    rewrite: str = ""
    asked: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Held:
    """A token read back."""

    sample: str
    comparison: Id
    lease: Lease
    asked: str = ""

    @classmethod
    def of(cls, token: str, who: str) -> Held:
        """Raises UserError where a token is cut, or was made for somebody else: the sides would be theirs."""
        try:
            sample, *parts = token.split(".")
            comparison, fence, shown_to, asked = map(bytes.fromhex, parts if len(parts) == 4 else [*parts, ""])
            principle = asked.decode()
        except ValueError:
            raise UserError("this is not the token of a pair that was shown; ask for the next pair") from None
        if shown_to != _shown_to(who, sample, comparison, fence, principle) or not fence.endswith(
            mark(sample, principle)
        ):
            raise UserError(f"this pair was not shown to {who}; ask for the next pair")
        return cls(sample, comparison, Lease(REVIEW, who, (comparison,), fence, 0), principle)


def _token(sample: str, lease: Lease, asked: str) -> str:
    (comparison,) = lease.ids
    parts = [comparison, lease.fence, _shown_to(lease.worker, sample, comparison, lease.fence, asked)]
    return ".".join([sample, *(part.hex() for part in [*parts, *([asked.encode()] if asked else [])])])


def _shown_to(who: str, sample: str, comparison: Id, fence: bytes, asked: str) -> bytes:
    return make_id("shown", who=who, sample=sample, comparison=comparison, fence=fence, asked=asked)[:4]


def mark(sample: str, asked: str) -> bytes:
    """How the fence of a pair ends that is held in this queue: one that is held in another is not shown in this one
    before its turn, or it would count as drawn by it."""
    return make_id("queue", sample=sample, asked=asked)[:2]


def item_of(about: Judged, lease: Lease, sample: str, answered: int, waiting: int, asked: str = "") -> Item:
    who, (comparison,) = lease.worker, lease.ids
    (pair,) = about.store.pairs([comparison])
    prompts = about.store.prompts(ids=[pair.comparison.prompt])
    a, b = (pair.first, pair.second) if shows_first_left(who, comparison) else (pair.second, pair.first)
    judged = {name for names in about.principles.values() for name in names} | {asked}
    principles = tuple(Asked(p.id, p.title, p.comparison) for p in about.constitution if p.id in judged)
    return Item(
        token=_token(sample, lease, asked),
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
        asked=asked,
        tags=tuple(sorted({tag for prompt in prompts for tag in prompt.tags})),
    )


def side(who: str, comparison: Id, choice: str) -> SpotAnswer:
    if choice in NO_SIDE:
        return choice  # type: ignore[return-value]
    return "first" if (choice == "a") == shows_first_left(who, comparison) else "second"


def _choice(check: SpotCheck) -> Choice:
    if check.answer == "tie" or check.answer == "skip" or check.answer == "neither":
        return check.answer
    return "a" if (check.answer == "first") == shows_first_left(check.reviewer, check.comparison) else "b"


def answered_of(check: SpotCheck) -> Answered:
    return Answered(
        check.event, check.at, check.reviewer, check.comparison.hex(), _choice(check), check.reason, check.sampled_by,
        check.principle, check.rewrite, check.asked,
    )  # fmt: skip
