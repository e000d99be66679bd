"""What is no judge and yet may be right: what a trial shows beside one, on the same pairs and in the same table.

- `always first`: whatever is shown first. Over both orders that is a tie on every pair; where a file has one order, and
  which, it is right wherever the better answer stood first.
- `longer`: the longer answer.
- `random`: a coin, by a hash of the pair.
- `bag of words`: a logistic regression on the difference of word counts, cross-validated by prompt on the very pairs
  (so it has seen other pairs of the same sort, which a judge has not), or fitted on a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from constitution.records import make_id
from pipeline.metrics.trial import Tried

FOLDS = 5
FEWEST = 20  # prompts, below which words are not fitted
MOST_WORDS = 4_000
REGULAR = 1.0  # inverse strength of the penalty
_WORD = re.compile(r"\w+|[^\w\s]")

Texts = Sequence[tuple[str, str]]  # the better answer and the worse, of each row


def simple(rows: Sequence[Tried], texts: Texts, fitted_on: Texts | None = None) -> Mapping[str, list[Tried]]:
    """The same rows, as each of these would have judged them. `bag of words` is left out where there are too few."""
    found = {
        "always first": [_answers(row, 1.0, 0.0) for row in rows],
        "longer": [_says(row, _longer(*row.lengths)) for row in rows],
        "random": [_says(row, float(make_id("coin", pair=row.pair)[0] % 2)) for row in rows],
    }
    words = bag_of_words(rows, texts, fitted_on)
    if words is not None:
        found["bag of words"] = [_says(row, p) for row, p in zip(rows, words, strict=True)]
    return found


def scored(rows: Sequence[Tried], better: Sequence[float], worse: Sequence[float]) -> list[Tried]:
    """The same rows as a reward would have judged them, which gives each answer a number."""
    return [_says(row, _longer(a, b)) for row, a, b in zip(rows, better, worse, strict=True)]


def _says(row: Tried, p: float) -> Tried:
    """A tie is no abstention here: it is what this one says."""
    return _answers(row, p, p) if p != 0.5 else _answers(row, 1.0, 0.0)


def _answers(row: Tried, shown_a: float, shown_b: float) -> Tried:
    """In the orders that the row has: where only one is recorded, whoever names what is shown first is no tie."""
    one = row.orders == 1 and row.ordered
    return replace(
        row,
        shown_a=None if one and row.shown_a is None else shown_a,
        shown_b=None if one and row.shown_b is None else shown_b,
        mass=1.0,
    )


def _longer(one: float, other: float) -> float:
    return 0.5 if one == other else float(one > other)


def bag_of_words(rows: Sequence[Tried], texts: Texts, fitted_on: Texts | None = None) -> list[float] | None:
    """The probability of the better answer by its words, for each row. None where there is too little to fit."""
    if fitted_on is not None:
        return _predicted(fitted_on, texts) if len(fitted_on) >= FEWEST else None
    prompts = sorted({row.prompt for row in rows})
    if len(prompts) < FEWEST:
        return None
    fold = {prompt: int.from_bytes(make_id("fold", prompt=prompt)[:4], "big") % FOLDS for prompt in prompts}
    found = [0.5] * len(rows)
    for number in range(FOLDS):
        inside = [i for i, row in enumerate(rows) if fold[row.prompt] == number]
        outside = [i for i, row in enumerate(rows) if fold[row.prompt] != number]
        if inside and outside:
            told = _predicted([texts[i] for i in outside], [texts[i] for i in inside])
            for i, p in zip(inside, told, strict=True):
                found[i] = p
    return found


def _predicted(fitted_on: Texts, texts: Texts) -> list[float]:
    from sklearn.linear_model import LogisticRegression

    seen = Counter(word for pair in fitted_on for text in pair for word in set(_words(text)))
    known = {word: i for i, (word, _) in enumerate(seen.most_common(MOST_WORDS))}
    differences = np.stack([_counts(a, known) - _counts(b, known) for a, b in fitted_on])
    # Each pair both ways round: without an intercept the fit then knows nothing of which answer comes first.
    model = LogisticRegression(C=REGULAR, fit_intercept=False, max_iter=500)
    model.fit(np.concatenate([differences, -differences]), [1] * len(fitted_on) + [0] * len(fitted_on))
    asked = np.stack([_counts(a, known) - _counts(b, known) for a, b in texts])
    return [float(p) for p in model.predict_proba(asked)[:, 1]]


def _counts(text: str, known: Mapping[str, int]) -> np.ndarray:
    """log(1 + count) of each known word."""
    counts = np.zeros(len(known))
    for word in _words(text):
        if (at := known.get(word)) is not None:
            counts[at] += 1
    return np.log1p(counts)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
