"""A principle and some text in, the chat messages of a critique, revision or comparison request out.

Substitution is pure and made in one pass, so text that happens to hold a slot's name is never substituted again.
The *question template* of a principle is the template below filled with its words, the slots for a dialogue and two
answers left open; the templates of critique and revision likewise, with its few-shots. That is what a question's id
hashes and what tells whether a chain is stale, so there is no template version to keep by hand.

The comparison puts the principle last, so that all questions about one pair share everything before it, and an engine
computes that part once. No text that is judged can end its own part of it: see `plainly`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, Protocol

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
    @property
    def why(self) -> str: ...
    @property
    def overridable(self) -> Sequence[str]: ...


COMPARISON = """Compare two replies to the end of this conversation.

{dialogue}

[Reply A]
{a}

[Reply B]
{b}

[Question]
{comparison}
Answer with A or B."""

APPLIES = """Read the end of this conversation.

{dialogue}

[Question]
{comparison}
A: {a}
B: {b}
Answer with A or B."""

RATING = """Rate a reply to the end of this conversation.

{dialogue}

[Reply A]
{a}

[Question]
Two replies are compared by this: {comparison}
Rate this one by it, on a scale from {worst}, for one that would always lose, to {best}, for one that would always win.
Answer with one of {scale}."""

# Two requests: the reasons, then the answer after them. Reasons are what a model wrote: text like any other.
REASONS = """Compare two replies to the end of this conversation.

{dialogue}

[Reply A]
{a}

[Reply B]
{b}

[Question]
{comparison}
Think about it step by step, in a few sentences. Do not answer yet."""

REASONED = """Compare two replies to the end of this conversation.

{dialogue}

[Reply A]
{a}

[Reply B]
{b}

[Question]
{comparison}

These thoughts were written about it:
{reasons}

[Question]
After these thoughts: {comparison}
Answer with A or B."""

REVISION = "{revision} Write only the new reply."
CRITIQUE = "{critique}"
# Put before the request of one who may find the principle set aside, and what then counts.
WAIVED = {
    "critique": "{} may set this aside. Where that was done, there is nothing to find fault with.\n",
    "revision": "{} may set this aside. Where that was done, nothing is changed because of it.\n",
    "comparison": "{} may set this aside. Where that was done, neither reply is better by it.\n",
}
WAIVERS = {"operator": "the system message", "user": "the user"}
SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}

_SLOT = re.compile(r"\{(dialogue|a|b|comparison|critique|revision|worst|best|scale|reasons)\}")

# Delimiters in folded text: `_SPOKEN` where lines are kept, `_BRACKETED` where they are not. Brackets that are not
# square count where they look it.
LETTERS = ("A", "B")
NUMBERS = ("1", "2")
_BRACKETED = {names: re.compile(rf"(\[)(?:reply[{''.join(names).lower()}]|question)\]") for names in (LETTERS, NUMBERS)}
_SPOKEN = re.compile(r"(?:^|\n)\\*((?:human|assistant|system):)")
_OPENING = "\uff3b\ufe47\u3010\u3014\u3016\u3018\u301a\u27e6\u2045\u2772\u298b"
_CLOSING = "\uff3d\ufe48\u3011\u3015\u3017\u3019\u301b\u27e7\u2046\u2773\u298c"
_BRACKETS = dict.fromkeys(_OPENING, "[") | dict.fromkeys(_CLOSING, "]")
_LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_FILLERS = frozenset("\u115f\u1160\u2800")  # letters and a symbol by category, blank on a page
_PERHAPS = re.compile(f"[\\[:\uff1a\ufe13\ufe55\u2a74{_OPENING}]")  # no delimiter is without a bracket or a colon


def fill(template: str, **values: str) -> str:
    """Put values into their slots, in one pass; a slot without a value stays open."""
    return _SLOT.sub(lambda slot: values.get(slot.group(1), slot.group(0)), template)


@lru_cache(maxsize=256)  # each text is asked about under every principle, in both orders
def plainly(text: str, names: tuple[str, str] = LETTERS) -> str:
    """`text` with a backslash before whatever in it could be read as a delimiter of the question, so that different
    dialogues and answers never make one question.

    A delimiter is `[Reply A]`, `[Reply B]` (or what else `names` calls the two), `[Question]`, or a line that begins
    with a speaker, as a reader sees it or a normaliser leaves it: in any case, with spaces, accents or invisible
    characters in it, full-width. One that has backslashes before it already gets one more, so the text can be told from
    the result. Ordinary text is unchanged.
    """
    if not _PERHAPS.search(text):
        return text
    letters = list(_folded(text))
    at = set()
    for pattern, keeps_lines in ((_BRACKETED[names], False), (_SPOKEN, True)):
        kept = [(letter, i) for letter, i in letters if keeps_lines or letter != "\n"]
        seen = "".join(letter for letter, _ in kept)
        at |= {kept[found.start(1)][1] for found in pattern.finditer(seen)}
    return "".join("\\" + c if i in at else c for i, c in enumerate(text))


def _folded(text: str) -> Iterator[tuple[str, int]]:
    """The characters that are left for a reader, each with the place it comes from: no case, accent, width, invisible
    character or space, and any end of a line as one `\\n`."""
    for i, character in enumerate(text):
        for letter in _fold(character):
            yield letter, i


@lru_cache(maxsize=4096)
def _fold(character: str) -> str:
    if character in _LINE_ENDS:
        return "\n"
    if character in _BRACKETS:
        return _BRACKETS[character]
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(
        c for c in letters if not c.isspace() and unicodedata.category(c)[0] not in "MC" and c not in _FILLERS
    )


def transcript(messages: Messages, names: tuple[str, str] = LETTERS) -> str:
    """A dialogue as plain text for a judge: one paragraph a turn, the speaker first; no turn can hold another."""
    return "\n\n".join(f"{SPEAKERS[m.role]}: {plainly(m.content, names)}" for m in messages)


def critique_request(dialogue: Messages, response: str, principle: Words) -> Messages:
    """Messages that ask for a critique of `response` (CAI section 3.1), the principle's exemplars before them, but
    after a system message: templates want that first, and many refuse it anywhere else."""
    return (*_after_shots(dialogue, _shots(principle)), Message("assistant", response), _critique_turn(principle))


def revision_request(dialogue: Messages, response: str, critique: str | None, principle: Words) -> Messages:
    """Messages that ask for a revision; `critique` None asks for it directly (CAI section 3.5)."""
    start = _after_shots(dialogue, _shots(principle, direct=critique is None))
    start = (*start, Message("assistant", response))
    if critique is not None:
        start = (*start, _critique_turn(principle), Message("assistant", critique))
    return (*start, _revision_turn(principle))


def answer_request(dialogue: Messages, principle: Words) -> Messages:
    """The dialogue with the principle's revision instruction at the end of its last turn: the model answers as it is
    told, and is trained to do so untold (context distillation, Askell et al. 2021, 2112.00861)."""
    *before, last = dialogue
    return (*before, Message(last.role, f"{last.content}\n\n{principle.revision.strip()}"))


def comparison_request(
    dialogue: Messages, a: str, b: str, principle: Words, names: tuple[str, str] = LETTERS
) -> Messages:
    """Messages that ask which of two replies the principle prefers (CAI section 4.1). `names`: what they are called."""
    values = {"a": plainly(a, names), "b": plainly(b, names), "comparison": _worded(principle, "comparison")}
    return (Message("user", fill(_calling(names), dialogue=transcript(dialogue, names), **values)),)


def applies_request(dialogue: Messages, ask: str, yes_first: bool) -> Messages:
    """Messages that ask a yes/no question about a request: with yes as A, or as B."""
    a, b = ("Yes", "No") if yes_first else ("No", "Yes")
    return (Message("user", fill(APPLIES, dialogue=transcript(dialogue), a=a, b=b, comparison=ask)),)


def applies_template(ask: str) -> str:
    """What is asked about a request, slots open."""
    return fill(APPLIES, comparison=ask)


def question_template(principle: Words, names: tuple[str, str] = LETTERS) -> str:
    """What the judge reads of a principle, slots open: hashed into the question's id."""
    return fill(_calling(names), comparison=_worded(principle, "comparison"))


def _calling(names: tuple[str, str]) -> str:
    """The comparison with its replies called by these names."""
    one, other = names
    asked = COMPARISON.replace("[Reply A]", f"[Reply {one}]").replace("[Reply B]", f"[Reply {other}]")
    return asked.replace("Answer with A or B.", f"Answer with {one} or {other}.")


def rating_request(dialogue: Messages, reply: str, principle: Words, scale: Sequence[str]) -> Messages:
    """Messages that ask for a rating of one reply, `scale` from the worst to the best (G-Eval, arXiv 2303.16634)."""
    return (Message("user", fill(RATING, **_rated(principle, scale), dialogue=transcript(dialogue), a=plainly(reply))),)


def rating_template(principle: Words, scale: Sequence[str]) -> str:
    """What is read of a principle where one reply is rated, the slots for the dialogue and the reply left open."""
    return fill(RATING, **_rated(principle, scale))


def _rated(principle: Words, scale: Sequence[str]) -> dict[str, str]:
    words = {"worst": scale[0], "best": scale[-1], "scale": ", ".join(scale)}
    return {"comparison": _worded(principle, "comparison"), **words}


def reasons_request(dialogue: Messages, a: str, b: str, principle: Words) -> Messages:
    """Messages that ask for reasons before an answer (CAI section 4.1, "let us think step by step")."""
    asked = _worded(principle, "comparison")
    return (
        Message("user", fill(REASONS, dialogue=transcript(dialogue), a=plainly(a), b=plainly(b), comparison=asked)),
    )


def reasoned_request(dialogue: Messages, a: str, b: str, principle: Words, reasons: str) -> Messages:
    """Messages that ask which reply it is, after the reasons that were written about it."""
    asked = _worded(principle, "comparison")
    values = {"dialogue": transcript(dialogue), "a": plainly(a), "b": plainly(b), "reasons": plainly(reasons)}
    return (Message("user", fill(REASONED, comparison=asked, **values)),)


def reasoned_template(principle: Words) -> str:
    """What a reasoned judge reads of a principle, in both of its requests, slots open."""
    asked = _worded(principle, "comparison")
    return canonical([fill(REASONS, comparison=asked), fill(REASONED, comparison=asked)])


def critique_template(principle: Words) -> str:
    """What the critic reads of a principle: hashed to tell whether a stored chain is stale."""
    return canonical([[m.role, m.content] for m in (*_shots(principle), _critique_turn(principle))])


def revision_template(principle: Words) -> str:
    return canonical([[m.role, m.content] for m in (*_shots(principle, direct=True), _revision_turn(principle))])


def _critique_turn(principle: Words) -> Message:
    return Message("user", fill(CRITIQUE, critique=_worded(principle, "critique")))


def _revision_turn(principle: Words) -> Message:
    return Message("user", fill(REVISION, revision=_worded(principle, "revision")))


def _worded(principle: Words, name: Literal["critique", "revision", "comparison"]) -> str:
    """The principle's words of that name, after why it is there and who may set it aside, where it says so."""
    why = f"Why this matters: {principle.why}\n" if principle.why else ""
    who = " or ".join(WAIVERS[one] for one in principle.overridable)
    waived = WAIVED[name].format(who[0].upper() + who[1:]) if who else ""
    words: str = getattr(principle, name)
    return why + waived + words


def _after_shots(dialogue: Messages, shots: Messages) -> Messages:
    """Exemplars between a dialogue's opening system messages and the rest of it."""
    opening = next((i for i, m in enumerate(dialogue) if m.role != "system"), len(dialogue))
    return (*dialogue[:opening], *shots, *dialogue[opening:])


def _shots(principle: Words, direct: bool = False) -> Messages:
    """The exemplars as turns. A system message of an exemplar's own is left out: what is shown here is how to mend a
    reply, and a second system message would speak for, or against, the dialogue's own."""
    turns: list[Message] = []
    for shot in principle.exemplars:
        turns += [*(m for m in shot.prompt if m.role != "system"), Message("assistant", shot.response)]
        if not direct:
            turns += [_critique_turn(principle), Message("assistant", shot.critique)]
        turns += [_revision_turn(principle), Message("assistant", shot.revision)]
    return tuple(turns)
