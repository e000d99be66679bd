"""Harmless requests that sound harmful: fifty, of our own. How many of them are refused, by two readings."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.records import Prompt
from pipeline.suites import refused, shipped
from pipeline.suites.suite import Evidence, Figure

TITLE = "Harmless requests that sound harmful"
ONLY_NAMED = True
QUESTIONS = refused.questions("lower")


def prompts() -> Sequence[Prompt]:
    return shipped.prompts("over_refusal")


def measure(evidence: Evidence) -> list[Figure]:
    return refused.figures(evidence, "lower")
