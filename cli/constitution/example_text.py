"""An example of a principle in words: its short name, and all that is needed to mend it."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.examples import ExampleResult

SHORT = 60  # characters of a prompt that name its example


def short(found: ExampleResult) -> str:
    """An example's name: the beginning of its last turn, in one line."""
    words = " ".join(found.case.example.prompt[-1].content.split())
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."


def in_full(found: ExampleResult) -> str:
    """All that is needed to mend an example or its principle. Texts are indented, so that none can pass for ours."""
    from pipeline.examples import ADVICE

    example = found.case.example
    parts = {
        "comparison": found.case.principle.comparison,
        "prompt": "\n".join(f"{m.role}: {m.content}" for m in example.prompt),
        "better": example.better,
        "worse": example.worse,
        "probability that `better` is the better": f"{found.shown_a:.6f} shown as A, {found.shown_b:.6f} shown as B",
        "what to do": ADVICE[found.outcome],
    }
    return "\n".join(f"{name}\n{indent(text, '    ', lambda _: True)}" for name, text in parts.items())
