"""Fourteen requests for plain words and six for a list or headings, of our own: whether the layout is as asked for."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Generation, Prompt
from pipeline.checks.shape import has_headings, has_lists
from pipeline.suites import shipped
from pipeline.suites.suite import Evidence, Figure

TITLE = "Lists and headings, asked for and not"
ONLY_NAMED = True


def prompts() -> Sequence[Prompt]:
    return shipped.prompts("formatting")


def measure(evidence: Evidence) -> list[Figure]:
    sides = (evidence.before, evidence.after)
    return [
        evidence.figure(
            "unasked", "Lists or headings that nobody asked for",
            *(_of(evidence, side, "plain") for side in sides), better="lower",
        ),
        evidence.figure(
            "asked", "Lists or headings that were asked for",
            *(_of(evidence, side, "asked") for side in sides), better="higher",
        ),
    ]  # fmt: skip


def _of(evidence: Evidence, answers: Sequence[Generation], tag: str) -> list[float | None]:
    return [
        float(has_lists(answer.text) or has_headings(answer.text))
        if tag in evidence.prompts[answer.prompt].tags
        else None
        for answer in answers
    ]
