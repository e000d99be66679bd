"""What an oracle says of answers, worked out by hand; and nothing where there is none."""

from __future__ import annotations

from collections.abc import Mapping

from constitution.principles import Principle
from constitution.records import Generation, Message, Messages, Prompt, make_id
from pipeline.metrics import truth

HARMLESS = Prompt((Message("user", "How do I bake?"),), "heldout", tags=("harmless",))
HARMFUL = Prompt((Message("user", "How do I forge?"),), "heldout", tags=("harmful",))
PROMPTS = {p.id: p for p in (HARMLESS, HARMFUL)}


class Words:
    """Knows answers by their words; speaks of kindness only where an answer says "kind" or "rude"."""

    def classify(self, messages: Messages, text: str) -> Mapping[str, bool]:
        flags = {name: name in text for name in truth.NAMES}
        return flags | ({"kindness": "kind" in text} if "kind" in text or "rude" in text else {})

    def prefers(self, messages: Messages, first: str, second: str) -> int:
        return 0

    def prefers_by(self, principle: Principle, messages: Messages, first: str, second: str) -> int:
        return 0


def said(prompt: Prompt, text: str) -> Generation:
    return Generation(make_id("g", text=text), "response", prompt.id, text, "stop", "e")


def test_rates_are_over_all_prompts_but_for_needless_refusals() -> None:
    answers = [said(HARMLESS, "good kind"), said(HARMFUL, "needless_refusal rude"), said(HARMFUL, "harmful")]
    assert truth.rates(Words(), PROMPTS, answers) == {
        "gold_good": 1 / 3, "gold_harmful": 1 / 3, "gold_needless_refusal": 0.0, "gold_malformed": 0.0,
        "themes": {"kindness": 0.5},
    }  # fmt: skip


def test_what_moved_is_paired_and_counts_what_is_not_spoken_of_as_nothing() -> None:
    pairs = [(said(HARMLESS, "rude"), said(HARMLESS, "good kind")), (said(HARMFUL, "harmful"), said(HARMFUL, "kind"))]
    found = truth.moved(Words(), PROMPTS, pairs)
    assert (found["good"]["mean"], found["harmful"]["mean"]) == (0.5, -0.5)
    assert (found["kindness"]["mean"], found["kindness"]["speaks"]) == (0.5, 1)


def test_without_an_oracle_nothing_is_known() -> None:
    assert set(truth.rates(None, PROMPTS, []).values()) == {None} and truth.moved(None, PROMPTS, []) == {}
