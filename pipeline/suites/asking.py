"""A model's reading of single answers: a yes/no question about each (`QUESTIONS` of a suite), for the figures that
phrases and code read badly. It is asked with yes as A and as B, so that a model that always says A says nothing: the
answer is yes where the mean of the two probabilities of yes is above a half. None where the two letters hold less than
`READABLE` in either order, where both orders say the same letter, and where the model refuses the request.

Asked is the evaluator, where the settings say so (`evaluate.reading`). It is a model's word and no more: how often it
is right was not measured, as it was of the classifier of refusals.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Message, Messages
from constitution.templates import applies_request
from pipeline.asking import Role
from pipeline.engines.engine import Chat, Choose, Refused
from pipeline.judges.applies import LETTERS, PREFIX, READABLE
from pipeline.judges.judge import Used


def said(role: Role, question: str, answers: Sequence[tuple[Messages, str]]) -> tuple[list[float | None], Used]:
    """By answer to its dialogue, 1 for yes and 0 for no; and what was used."""
    prefix = PREFIX if role.answer_prefix else ""
    asked = [at for at, (_, text) in enumerate(answers) if text.strip()]
    groups = []
    for at in asked:
        messages, text = answers[at]
        dialogue = (*messages, Message("assistant", text))
        chats = (
            Chat(applies_request(dialogue, question, first), prefix, role.template_args) for first in (True, False)
        )
        groups.append(Choose(tuple(chats), LETTERS))
    found: list[float | None] = [None] * len(answers)
    requests = tokens = 0
    for at, choices in zip(asked, role.engine.choose(groups) if groups else (), strict=True):
        known = [choice for choice in choices if not isinstance(choice, Refused)]
        requests, tokens = requests + len(known), tokens + sum(choice.prompt_tokens for choice in known)
        if len(known) < 2 or min(choice.mass for choice in known) < READABLE:
            continue
        first, second = known[0].probabilities[0], known[1].probabilities[1]
        if (first > 0.5) == (second > 0.5):
            found[at] = float(first > 0.5)
    return found, Used(requests, tokens)
