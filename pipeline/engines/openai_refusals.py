"""A server's no to one request: whether it is about that request alone, and then of what kind.

Servers say it in a status in the 400s and in words of their own. Where the words are not known, the same request is
asked with a harmless text: if that is refused too, it is the settings that are wrong, and no request would survive.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline.engines.engine import Refused, WhyRefused
from pipeline.engines.openai_transport import RefusedByServer

T = TypeVar("T")
OF_ONE_REQUEST = (400, 413, 422, 451)  # the others are about keys, addresses and models
_WORDS: tuple[tuple[WhyRefused, re.Pattern[str]], ...] = (
    (
        "too_long",
        re.compile(
            r"context.?(length|window|size)|max(imum)?.{0,20}(tokens|length|context)|too (long|large|many tokens)|"
            r"reduce the length|input.?tokens|exceeds? .{0,40}(tokens|length|limit)|longer than",
            re.IGNORECASE,
        ),
    ),
    ("refused", re.compile(r"content.?(filter|polic|management)|safety|moderation|flagged|harmful", re.IGNORECASE)),
    ("template", re.compile(r"template|jinja|roles? must|alternat|system (role|message)", re.IGNORECASE)),
    ("empty", re.compile(r"(cannot|must not|should not|may not) be empty|is empty|at least one token", re.IGNORECASE)),
)
# What a server says that does not know a setting: never about one text, whatever other words are there.
_OF_SETTINGS = re.compile(
    r"unsupported|unrecognized|unknown (param|arg|field)|not (supported|permitted|allowed)|extra (inputs|fields)|"
    r"max_completion_tokens|max_tokens.{0,20}too (large|high)",
    re.IGNORECASE,
)


def kind_of(refusal: RefusedByServer) -> WhyRefused | None:
    """Why one request was refused; None where the server's words do not tell."""
    if refusal.status == 413:
        return "too_long"
    if _OF_SETTINGS.search(refusal.said):
        return None
    return next((kind for kind, words in _WORDS if words.search(refusal.said)), None)


async def or_refused(work: Awaitable[T], harmless: Callable[[], Awaitable[object]]) -> T | Refused:
    """What `work` gives, or why the server will not have this request. `harmless` asks the same with a text that
    nobody refuses, and raises where it is refused. Raises RefusedByServer where no request would survive."""
    try:
        return await work
    except RefusedByServer as refusal:
        if refusal.status not in OF_ONE_REQUEST:
            raise
        kind = kind_of(refusal)
        if kind is None:
            await harmless()
        return Refused(kind or "refused", f"{refusal}")


def too_long(tokens: int, context: int, host: str) -> Refused:
    return Refused(
        "too_long",
        f"a text has {tokens} tokens, and the server at {host} reads at most {context}; leave out longer ones, or "
        "serve the model with a longer context (--max-model-len)",
    )
