"""Whether one text is another over again: the same words, or nearly so.

Texts are compared as words in lower case without punctuation, by the runs of words that both have in the same order
(difflib's matching blocks). A text is a copy of a source

- when they share `NEAR` of their words, 2 * shared / (words of both), or
- when it holds `HELD` of a source of `LEAST` words or more, in runs of `RUN` words, whatever else it says besides.

The second is not asked of a request, which an answer may well repeat. It says nothing of what a text means, and a text
that takes one sentence out of a source is no copy of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache

NEAR, HELD = 0.8, 0.9  # what lies on either side of them is in tests/pipeline/test_copies.py
LEAST, RUN = 5, 3  # words
MOST = 1000  # words that are looked at: a longer text is a copy by its beginning


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """A text as it is compared: its words, at most `MOST`. A text without one letter or digit has none."""
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text[: 20 * MOST]).casefold())[:MOST])


def is_copy(text: str, source: str, held: bool = True) -> bool:
    """See the module; `held` False asks for the first alone."""
    a, b = words(text), words(source)
    if not a or not b or a == b:
        return a == b != ()
    holds = held and len(b) >= LEAST
    common = (Counter(a) & Counter(b)).total()  # at most so many are shared, whatever their order
    if 2 * common < NEAR * (len(a) + len(b)) and not (holds and common >= HELD * len(b)):
        return False
    runs = [run.size for run in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()]
    if 2 * sum(runs) >= NEAR * (len(a) + len(b)):
        return True
    return holds and sum(run for run in runs if run >= RUN) >= HELD * len(b)


def copied(text: str, answer: str, sources: Iterable[str], held: bool = True) -> bool:
    """Whether a text that should mend `answer` is a copy of one of the sources. Where the answer is one already that is
    no fault of the text, unless they are the very same words: an answer to "correct this text" is near its request."""
    return any(
        is_copy(text, source, held) and (words(text) == words(source) or not is_copy(answer, source, held))
        for source in sources
    )
