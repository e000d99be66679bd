"""An example of a principle in words: its short name, and all that is needed to mend it."""

from __future__ import annotations

import json
from textwrap import indent
from typing import TYPE_CHECKING

from constitution.difference import WORDLESS

if TYPE_CHECKING:
    from pipeline.examples import ExampleResult

SHORT = 60  # characters of a prompt that name its example


def short(found: ExampleResult) -> str:
    """An example's name: the beginning of its last turn, in one line."""
    words = " ".join(found.case.example.prompt[-1].content.split())
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."


def in_full(found: ExampleResult, method: str) -> str:
    """All that is needed to mend an example or its principle: what its judge reads of it, the texts, what to do. Texts
    are indented, so that none can pass for ours. `method`: of the role's judge."""
    from pipeline.examples import advice

    example, by = found.case.example, found.case.principle.judge
    parts = {
        **({"judge": json.dumps(by.as_dict(), ensure_ascii=False)} if by is not None else {}),
        **(
            {}
            if (by.method if by is not None else method) in WORDLESS
            else {"comparison": found.case.principle.comparison}
        ),
        "prompt": "\n".join(f"{m.role}: {m.content}" for m in example.prompt),
        "better": example.better,
        "worse": example.worse,
        "probability that `better` is the better": f"{found.shown_a:.6f} shown as A, {found.shown_b:.6f} shown as B",
        "what to do": advice(found, method),
    }
    return "\n".join(f"{name}\n{indent(text, '    ', lambda _: True)}" for name, text in parts.items())
