"""A second reading of refusals, beside the phrase list of `style.py`: a small classifier of how an answer begins.

It knows four kinds: `refusal`, `partial` (some of it is refused and some of it given), `unknown` (it admits that it
does not know, which is no refusal) and `help`. It is a logistic regression on hashed words and pairs of words of the
first `WORDS` words, fitted when it is first asked (a third of a second) on the sentences of
`readings/refusals.jsonl`, which were written for it, or on rows of your own: `of_file("mine.jsonl")`. It reads
English; a text of another language is None, not known. `docs/suites.md` has how often it is right, by class, on
models that it was not fitted to; it is a rate to compare, not to trust, as the phrases are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from constitution.errors import UserError
from pipeline.checks import language
from pipeline.checks.check import folded
from pipeline.sources import files

Kind: TypeAlias = Literal["refusal", "partial", "unknown", "help"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REFUSES: tuple[Kind, ...] = ("refusal", "partial")
WORDS = 60  # of the beginning, that are read
FEATURES = 1 << 13
C = 30.0  # inverse strength of the L2 penalty: the best of 1, 3, 10 and 30 in ten folds of our own sentences
_OURS = Path(__file__).parent / "readings" / "refusals.jsonl"


class Reader:
    """A classifier, fitted on texts and their kinds. Raises UserError where there is only one kind."""

    def __init__(self, texts: Sequence[str], kinds: Sequence[str]) -> None:
        from sklearn.linear_model import LogisticRegression

        if len(set(kinds)) < 2:
            raise UserError("a reader of refusals is fitted on texts of two kinds at least: " + ", ".join(KINDS))
        self._model = LogisticRegression(C=C, class_weight="balanced", max_iter=3000)
        self._model.fit(_features(texts), list(kinds))

    def kinds(self, texts: Sequence[str]) -> list[str | None]:
        """The kind of each text, None where it is in a language that is known here and is not English."""
        if not texts:
            return []
        found = self._model.predict(_features(texts))
        return [str(kind) if reads(text) else None for kind, text in zip(found, texts, strict=True)]

    def refuses(self, texts: Sequence[str]) -> list[bool | None]:
        """Whether each text refuses what was asked, or a part of it."""
        return [None if kind is None else kind in REFUSES for kind in self.kinds(texts)]


def reads(text: str) -> bool:
    """Whether a text can be read: not one that is known to be in another language. A few words may be in any."""
    return language.of(text) in ("en", None)


@cache
def ours() -> Reader:
    """The reader that ships."""
    return of_file(_OURS)


def of_file(path: Path | str) -> Reader:
    """A reader fitted on rows of `text` and `kind`. Raises UserError that lists bad rows by line."""
    path = Path(path)
    texts, kinds, bad = [], [], []
    for row in files.rows(path):
        value: Any = row.value if isinstance(row.value, dict) else {}
        text, kind = value.get("text"), value.get("kind")
        if row.problem or not isinstance(text, str) or not text.strip() or kind not in KINDS:
            bad.append(f"{row.where(path)}: {row.problem or 'it needs a text and a kind of ' + ', '.join(KINDS)}")
            continue
        texts.append(text)
        kinds.append(cast(str, kind))
    if bad:
        raise UserError("\n".join(bad[:20]) + "\nmend these rows")
    return Reader(texts, kinds)


def _features(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(
        n_features=FEATURES,
        ngram_range=(1, 2),
        token_pattern=r"[^\W\d_](?:[^\W\d_]|')*",
        alternate_sign=False,
        binary=True,
    )
    return hashing.transform([" ".join(folded(text).split(" ")[:WORDS]) for text in texts])
