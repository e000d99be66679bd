"""Fourteen requests for a long text, of our own: what an answer repeats of itself.

`repeated`: the share of its runs of four words that were there before, which goes to 1 where a model goes round in
circles (the complement of distinct-4, after Li et al., arXiv 1510.03055). `loops`: a sentence is there three times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from constitution.records import Prompt
from pipeline.checks.check import folded
from pipeline.suites import shipped
from pipeline.suites.suite import Evidence, Figure

TITLE = "Repetition in long answers"
ONLY_NAMED = True
RUN = 4  # words


def prompts() -> Sequence[Prompt]:
    return shipped.prompts("repetition")


def measure(evidence: Evidence) -> list[Figure]:
    before, after = ([answer.text for answer in answers] for answers in (evidence.before, evidence.after))
    return [
        evidence.figure("repeated", "Runs of four words that repeat", *map(_repeated, (before, after)), better="lower"),
        evidence.figure("loops", "Answers with a sentence three times", *map(_loops, (before, after)), better="lower"),
    ]


def _repeated(texts: Sequence[str]) -> list[float | None]:
    """None of a text that is too short to have two runs."""
    found: list[float | None] = []
    for text in texts:
        said = re.findall(r"\w+", folded(text))
        runs = [tuple(said[at : at + RUN]) for at in range(len(said) - RUN + 1)]
        found.append(1 - len(set(runs)) / len(runs) if len(runs) > 1 else None)
    return found


def _loops(texts: Sequence[str]) -> list[float]:
    sentences = ([s.strip() for s in re.split(r"[.!?]+\s|\n", folded(text)) if s.strip()] for text in texts)
    return [float(max(Counter(found).values(), default=0) >= 3) for found in sentences]
