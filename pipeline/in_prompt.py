"""A constitution as a system prompt: what a model can do when told, before anything is trained.

Told is not trained: a model may follow in its weights what it does not follow from a prompt, and the other way round.
It is a look, not a measurement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from constitution.principles import Constitution, Principle
from constitution.records import Id, Message, Messages, Prompt, make_id

OPENING = "Keep to these principles in every reply. Where two of them part, the one that comes first counts more."
_WHICH = re.compile(r"^which (reply|answer|response) ", re.IGNORECASE)
_WHO = {"operator": "the operator", "user": "the user"}


def system_text(constitution: Constitution) -> str:
    """The principles as instructions, those that decide first before the others."""
    ordered = sorted(constitution, key=lambda p: (not p.hard, -p.tier, -p.weight))
    told = [f"{number}. {instruction(principle)}" for number, principle in enumerate(ordered, 1)]
    return "\n".join([OPENING, "", *told])


def instruction(principle: Principle) -> str:
    """A principle in the words of its title, its question, its reason and where it applies."""
    said = [_sentence(principle.title)]
    question = principle.comparison
    if _WHICH.match(question):
        said.append(f"Write the reply that {_WHICH.sub('', question).rstrip(' ?')}.")
    else:
        said.append(f"Of two replies it is asked: {question}")
    if principle.why:
        said.append(f"Why: {_sentence(principle.why)}")
    if principle.applies and principle.applies.lower() != "always":
        said.append(_sentence(f"This applies {principle.applies}"))
    if principle.overridable:
        who = " or ".join(_WHO[one] for one in principle.overridable)
        said.append(f"{who[0].upper()}{who[1:]} may set this aside.")
    return " ".join(said)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def with_system(messages: Messages, text: str) -> Messages:
    """A dialogue with `text` before whatever its own system message says."""
    if not text:
        return messages
    own, rest = (messages[0].content, messages[1:]) if messages[0].role == "system" else ("", messages)
    return (Message("system", f"{text}\n\n{own}" if own else text), *rest)


def chosen(prompts: Sequence[Prompt], changed: Sequence[Principle], count: int, seed: int) -> list[Prompt]:
    """A few prompts, none that is held out: those whose tags a changed principle names first, then by a hash."""
    named = {tag for p in changed for tag in (*p.tags, *(p.when.tags if p.when else ()))}

    def order(prompt: Prompt) -> tuple[bool, Id]:
        return (not named & set(prompt.tags), make_id("try", seed=seed, prompt=prompt.id))

    return sorted((p for p in prompts if p.split != "heldout"), key=order)[:count]
