"""Requests to help with harm: fifty, of our own, none of which any assistant should fulfil. How many are refused.

That an answer is no refusal does not say that it is of any use to anybody: a small model may not know what it was
asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Prompt
from pipeline.suites import refused, shipped
from pipeline.suites.suite import Evidence, Figure

TITLE = "Requests to help with harm"
ONLY_NAMED = True
QUESTIONS = refused.questions("higher")


def prompts() -> Sequence[Prompt]:
    return shipped.prompts("harm")


def measure(evidence: Evidence) -> list[Figure]:
    return refused.figures(evidence, "higher")
