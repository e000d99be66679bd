"""Who a server is, as far as it can be told from outside: asked when it is first met, and again after every failure.

A server that comes back after a failed connection may serve other weights, another tokenizer, template or context
length under the same name. What shows it: its answers to a few fixed questions (canaries), the ids that it makes of
their chats, and what it says of itself. It costs three short requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from constitution.records import Message
from pipeline.engines.engine import Chat, Choice, Choose

FLOOR = -10.0  # log-probabilities under this are noise
SURE = -3.0  # log-probabilities over this do not move by rounding
DRIFT = 0.05  # natural log: servers differ by less from batch to batch, another model by far more

# Never changed: every stored answer to them would be void.
CANARIES = (
    "Which is larger?\n(A) seven\n(B) two\nAnswer with one letter, A or B.",
    "Which of these is a colour?\n(A) quickly\n(B) green\nAnswer with one letter, A or B.",
    "Which reply is kinder to a child who lost a toy?\n(A) Too bad.\n(B) I am sorry. Shall we look for it?\n"
    "Answer with one letter, A or B.",
)
CHATS = tuple(Chat((Message("user", question),)) for question in CANARIES)
QUESTIONS = Choose(CHATS, ("A", "B"))


@dataclass(frozen=True)
class Identity:
    """`canaries`: natural log-probabilities of A and B after each canary; none of a server that shows no such thing.
    `rendered`: the ids that the server's own template and tokenizer make of the first; none where it does not tell.
    `context`: the most tokens that it reads and writes, where it says so."""

    canaries: tuple[float, ...] = ()
    rendered: tuple[int, ...] = ()
    context: int | None = None

    def differs(self, before: Identity) -> list[str]:
        """What is not as it was, in words; nothing where it is the same server as far as can be told."""
        found = []
        moved = furthest(self.canaries, before.canaries)
        if moved > DRIFT:
            found.append(f"its answers to fixed questions moved by {moved:.2f}")
        if self.rendered != before.rendered:
            found.append("its tokenizer or chat template makes other tokens of the same chat")
        if self.context != before.context:
            found.append(f"it reads at most {self.context or 'an unsaid number of'} tokens, and read {before.context}")
        return found


def furthest(now: Sequence[float], before: Sequence[float]) -> float:
    """How far canaries moved, in natural logs; a very long way where they are not as many. What is unlikely (a model
    that thinks first says neither letter) moves more from batch to batch in short floats, and is given more room."""
    if len(now) != len(before):
        return 100.0
    moves = [
        abs(one - other) - DRIFT * max(0.0, SURE - max(one, other)) for one, other in zip(now, before, strict=True)
    ]
    return max(moves, default=0.0)


def canaries(choices: Sequence[Choice]) -> tuple[float, ...]:
    held = [p * choice.mass for choice in choices for p in choice.probabilities]
    return tuple(max(FLOOR, math.log(p)) if p > 0 else FLOOR for p in held)
