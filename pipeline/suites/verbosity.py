"""Twenty-five questions that a word or a sentence answers, of our own. How long the answers are, and how many pad."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Prompt
from pipeline.checks.shape import words
from pipeline.suites import shipped
from pipeline.suites.suite import Evidence, Figure

TITLE = "Length where a sentence would do"
ONLY_NAMED = True
ENOUGH = 40  # words, which hold a sentence or two


def prompts() -> Sequence[Prompt]:
    return shipped.prompts("verbosity")


def measure(evidence: Evidence) -> list[Figure]:
    before, after = ([words(answer.text) for answer in answers] for answers in (evidence.before, evidence.after))
    return [
        evidence.figure("words", "Length of an answer", before, after, unit="words", better="lower"),
        evidence.figure(
            "padded", f"Answers of over {ENOUGH} words",
            [float(n > ENOUGH) for n in before], [float(n > ENOUGH) for n in after], better="lower",
        ),
    ]  # fmt: skip
