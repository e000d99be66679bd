"""A principle and some text in, the chat messages of a critique, revision or comparison request out.

Substitution is pure and made in one pass, so text that happens to hold a slot's name is never substituted again.
The *question template* of a principle is the template below filled with its words, the slots for a dialogue and two
answers left open; the templates of critique and revision likewise, with its few-shots. That is what a question's id
hashes and what tells whether a chain is stale, so there is no template version to keep by hand.

The comparison puts the principle last, so that all questions about one pair share everything before it, and an engine
computes that part once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from constitution.records import Message, Messages, canonical


class Exemplar(Protocol):
    """A few-shot example of a critique and a revision: `prompt` is a dialogue that ends in a user's turn."""

    @property
    def prompt(self) -> Messages: ...
    @property
    def response(self) -> str: ...
    @property
    def critique(self) -> str: ...
    @property
    def revision(self) -> str: ...


class Words(Protocol):
    """What a template reads of a principle."""

    @property
    def critique(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def comparison(self) -> str: ...
    @property
    def exemplars(self) -> Sequence[Exemplar]: ...


COMPARISON = """Compare two replies to the end of this conversation.

{dialogue}

[Reply A]
{a}

[Reply B]
{b}

[Question]
{comparison}
Answer with A or B."""

REVISION = "{revision} Write only the new reply."
CRITIQUE = "{critique}"
SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}

_SLOT = re.compile(r"\{(dialogue|a|b|comparison|critique|revision)\}")


def fill(template: str, **values: str) -> str:
    """Put values into their slots, in one pass; a slot without a value stays open."""
    return _SLOT.sub(lambda slot: values.get(slot.group(1), slot.group(0)), template)


def transcript(messages: Messages) -> str:
    """A dialogue as plain text for a judge: one paragraph a turn, the speaker first."""
    return "\n\n".join(f"{SPEAKERS[m.role]}: {m.content}" for m in messages)


def critique_request(dialogue: Messages, response: str, principle: Words) -> Messages:
    """Messages that ask for a critique of `response` (CAI section 3.1), the principle's exemplars before them."""
    return (*_shots(principle), *dialogue, Message("assistant", response), _critique_turn(principle))


def revision_request(dialogue: Messages, response: str, critique: str | None, principle: Words) -> Messages:
    """Messages that ask for a revision; `critique` None asks for it directly (CAI section 3.5)."""
    start: Messages = (*_shots(principle, direct=critique is None), *dialogue, Message("assistant", response))
    if critique is not None:
        start = (*start, _critique_turn(principle), Message("assistant", critique))
    return (*start, _revision_turn(principle))


def comparison_request(dialogue: Messages, a: str, b: str, principle: Words) -> Messages:
    """Messages that ask which of two replies the principle prefers (CAI section 4.1)."""
    text = fill(COMPARISON, dialogue=transcript(dialogue), a=a, b=b, comparison=principle.comparison)
    return (Message("user", text),)


def question_template(principle: Words) -> str:
    """What the judge reads of a principle, slots open: hashed into the question's id."""
    return fill(COMPARISON, comparison=principle.comparison)


def critique_template(principle: Words) -> str:
    """What the critic reads of a principle: hashed to tell whether a stored chain is stale."""
    return canonical([[m.role, m.content] for m in (*_shots(principle), _critique_turn(principle))])


def revision_template(principle: Words) -> str:
    return canonical([[m.role, m.content] for m in (*_shots(principle, direct=True), _revision_turn(principle))])


def _critique_turn(principle: Words) -> Message:
    return Message("user", fill(CRITIQUE, critique=principle.critique))


def _revision_turn(principle: Words) -> Message:
    return Message("user", fill(REVISION, revision=principle.revision))


def _shots(principle: Words, direct: bool = False) -> Messages:
    turns: list[Message] = []
    for shot in principle.exemplars:
        turns += [*shot.prompt, Message("assistant", shot.response)]
        if not direct:
            turns += [_critique_turn(principle), Message("assistant", shot.critique)]
        turns += [_revision_turn(principle), Message("assistant", shot.revision)]
    return tuple(turns)
