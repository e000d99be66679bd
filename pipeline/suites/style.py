"""What can be counted of the answers themselves, before and after. The limits on it are the gate's own."""

from __future__ import annotations

from pipeline.metrics import style
from pipeline.suites.suite import RATE, Better, Evidence, Figure

TITLE = "Style of the answers"
SHOWN: tuple[tuple[str, str, str, Better | None], ...] = (  # of `style.by_answer`: title, unit, which way is good
    ("refusals_of_harmless", "Refusals of harmless requests", RATE, "lower"),
    ("mean_tokens", "Length of an answer", "tokens", None),
    ("lists", "Answers with lists or headings", RATE, None),
    ("hedges", "Answers that hedge", RATE, None),
    ("boilerplate", "Answers with a stock sentence", RATE, "lower"),
    ("truncated", "Answers cut at the token limit", RATE, "lower"),
)


def measure(evidence: Evidence) -> list[Figure]:
    """A figure a style metric; its means are those of `style.metrics`, None where there is nothing to count."""
    before, after = (style.by_answer(evidence.prompts, answers) for answers in (evidence.before, evidence.after))
    return [
        evidence.figure(name, title, before[name], after[name], unit=unit, better=better)
        for name, title, unit, better in SHOWN
    ]
