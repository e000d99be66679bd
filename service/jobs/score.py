"""An answer that somebody typed, or two, read by judge and reward: `precept score` for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constitution.errors import UserError
from service.actions import score
from service.wiring import Wiring
from service.work.progress import Progress

TEXT = 20_000  # characters
ANSWERS = 32


def check(payload: Mapping[str, Any]) -> dict[str, Any]:
    """`prompt`, `answer`, `second` (None for one answer), `n`."""
    prompt, answer, second = payload.get("prompt"), payload.get("answer"), payload.get("second")
    n = payload.get("n", 8)
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError("the prompt is empty: write what the answer is an answer to")
    if not isinstance(answer, str) or not (second is None or isinstance(second, str)):
        raise UserError("an answer is a text")
    if answer == second:
        raise UserError("both answers are the same text, so neither can be preferred")
    if any(len(text) > TEXT for text in (prompt, answer, second or "")):
        raise UserError(f"a text is longer than {TEXT:,} characters: shorten it, or take `precept score`")
    if not isinstance(n, int) or not 1 <= n <= ANSWERS:
        raise UserError(f"an answer is put against 1 to {ANSWERS} others")
    return {"prompt": prompt, "answer": answer, "second": second, "n": n}


def work(wiring: Wiring, payload: Mapping[str, Any], who: str, report: Progress) -> dict[str, Any]:
    prompt, answer, second = payload["prompt"], payload["answer"], payload["second"]
    if second is None:
        return score.score(wiring, prompt, answer, n=payload["n"], report=report).as_dict()
    return score.prefer(wiring, prompt, answer, second, report=report).as_dict()
