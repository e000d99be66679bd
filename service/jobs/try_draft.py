"""Answers of today's model, beside those with a draft of the constitution in the system prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constitution import loading
from constitution.errors import UserError
from service.wiring import Wiring
from service.work.draft_answers import try_out
from service.work.progress import Progress

PROMPTS = 50


def check(payload: Mapping[str, Any]) -> dict[str, Any]:
    """`text` of the draft, and on how many prompts (`count`). Raises UserError for a draft with a mistake."""
    text, count = payload.get("text"), payload.get("count", 8)
    if not isinstance(text, str) or not isinstance(count, int) or not 1 <= count <= PROMPTS:
        raise UserError(f"a draft is tried on 1 to {PROMPTS} prompts")
    loading.parse(text, "the draft")
    return {"text": text, "count": count}


def work(wiring: Wiring, payload: Mapping[str, Any], who: str, report: Progress) -> dict[str, Any]:
    draft = loading.parse(payload["text"], "the draft")
    return try_out(wiring.settings, draft, payload["count"], who=who, report=report).as_dict()
