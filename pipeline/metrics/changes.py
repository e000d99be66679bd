"""How far the style of answers moved, paired by prompt, each with its interval: what a gate has limits on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constitution.records import Generation, Id, Prompt
from pipeline.metrics import style
from pipeline.metrics.intervals import interval_of, ratio_of

RATES = ("refusals_of_harmless", "boilerplate", "truncated")


def changes(
    prompts: Mapping[Id, Prompt], before: Sequence[Generation], after: Sequence[Generation]
) -> dict[str, dict[str, Any] | None]:
    """By rate, the mean of after minus before over the prompts on which both are known, in -1 to 1, with its 95%
    interval and their number `n`; `length_ratio`: mean tokens after over before. None where nothing is known of it.
    `before` and `after` are aligned, an answer a prompt."""
    old, new = (style.by_answer(prompts, answers) for answers in (before, after))
    found: dict[str, dict[str, Any] | None] = {}
    for name in RATES:
        moved = [a - b for b, a in zip(old[name], new[name], strict=True) if b is not None and a is not None]
        found[name] = {**interval_of(moved, least=-1.0).as_dict(), "n": len(moved)} if moved else None
    tokens = [[value or 0.0 for value in side["mean_tokens"]] for side in (new, old)]
    ratio = ratio_of(*tokens)
    found["length_ratio"] = {**ratio.as_dict(), "n": len(before)} if ratio.mean == ratio.mean else None
    return found
