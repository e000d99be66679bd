"""Which pairs of answers to compare, and cutting what a judge still has to be asked into batches.

A pair is of two answers to one dialogue: two samples of a model, an original and its revision, or two models' answers.
Answers of equal text are never compared; answers cut at the token limit are left out and counted by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from constitution.records import Comparison, Generation, Id


def pair(one: Generation, other: Generation) -> Comparison | None:
    """The comparison of two answers to the same prompt, or None when their texts are the same."""
    if one.prompt != other.prompt:
        raise ValueError("only answers to one prompt can be compared")
    if one.content == other.content:
        return None
    return Comparison.of(one.prompt, one.content, other.content)


def whole(generations: Iterable[Generation]) -> list[Generation]:
    """The answers that were finished and are not empty."""
    return [g for g in generations if g.finish_reason == "stop" and g.text.strip()]


def samples_of(generations: Sequence[Generation], most: int) -> list[tuple[Generation, Generation]]:
    """At most `most` pairs a prompt among its finished samples, each text used as evenly as can be."""
    by_prompt: dict[Id, dict[Id, Generation]] = {}
    for g in whole(generations):
        by_prompt.setdefault(g.prompt, {}).setdefault(g.content, g)
    pairs = []
    for answers in by_prompt.values():
        # Neighbours in the order of their digests first: a ring before its chords.
        ring = sorted(answers.values(), key=lambda g: g.content)
        n = len(ring)
        every = sorted(combinations(range(n), 2), key=lambda ij: (min(ij[1] - ij[0], n - ij[1] + ij[0]), ij))
        pairs += [(ring[i], ring[j]) for i, j in every[:most]]
    return pairs


def judging_batches(
    missing: Mapping[Id, Sequence[Id]], plan: Sequence[Id], questions: int, width: int | None = None
) -> list[dict[Id, list[Id]]]:
    """The plan of comparisons cut into batches of about `questions` verdicts, and of each batch what is missing.

    `missing`: comparison id to the question ids without a verdict. Batches that lack nothing are not returned. `width`:
    the most that a comparison lacks in a longer plan, of which this one is so many whole batches.
    """
    size = batch_size(max((len(asked) for asked in missing.values()), default=1) if width is None else width, questions)
    cut = (plan[start : start + size] for start in range(0, len(plan), size))
    return [left for ids in cut if (left := {i: list(missing[i]) for i in ids if missing.get(i)})]


def batch_size(width: int, questions: int) -> int:
    """How many comparisons, of which each lacks `width` verdicts at most, make a batch of `questions` of them."""
    return max(1, questions // max(1, width))
