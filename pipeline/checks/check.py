"""One check: what it says in words, and how well an answer keeps it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from constitution.records import Messages

# The dialogue and an answer in; out comes 1 where it is kept, less (0 to 1) for how near it comes, None: not known.
Kept: TypeAlias = Callable[[Messages, str], float | None]


@dataclass(frozen=True)
class Check:
    """`source`: a digest of code that is not ours, where there is any."""

    says: str
    kept: Kept
    source: str = ""


Make: TypeAlias = Callable[[Any], Check]  # from the value of its key; raises Wrong


class Wrong(ValueError):
    """A value that a check cannot be made of: what is wrong with it, and a full sentence that says how to mend it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


QUOTES = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2013\u2014\u2212", "-"),
    }
)
BLANKS = re.compile(r"\s+")
UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def folded(text: str) -> str:
    """As phrases are looked for: compatibility forms, quotes and dashes as a keyboard has them, no case, blanks (line
    ends and no-break spaces among them) as one space, nothing that cannot be seen."""
    plain = unicodedata.normalize("NFKC", UNSEEN.sub("", text).translate(QUOTES)).casefold()
    return BLANKS.sub(" ", plain).strip()
