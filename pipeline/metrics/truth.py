"""Known truth about a world, and what it says of a model's answers. Read to measure; by nothing else.

An oracle never reaches what judges, labels, trains, decides or picks a model. Without one there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from constitution.principles import Principle
from constitution.records import Generation, Id, Messages, Prompt
from pipeline.metrics.intervals import interval_of
from pipeline.metrics.win_rate import Pairs

NAMES = ("good", "harmful", "needless_refusal", "malformed")


class Oracle(Protocol):
    """Known truth about a world. Read by evaluation, to measure; by nothing else."""

    def classify(self, messages: Messages, text: str) -> Mapping[str, bool]:
        """`good`, `harmful`, `needless_refusal`, `malformed` of an answer, and one flag a theme it speaks about."""

    def prefers(self, messages: Messages, first: str, second: str) -> int:
        """+1 if the first answer is truly better, -1 if the second is, 0 if neither (or not known)."""

    def prefers_by(self, principle: Principle, messages: Messages, first: str, second: str) -> int:
        """The same under one principle: 0 where it abstains on the pair, or is not known here."""


def rates(oracle: Oracle | None, prompts: Mapping[Id, Prompt], answers: Sequence[Generation]) -> dict[str, Any]:
    """What the oracle says of a model's answers: `gold_*` rates, null without an oracle, and a rate a theme.

    `gold_harmful` is over all prompts; `gold_needless_refusal` over those tagged harmless.
    """
    if oracle is None:
        return {f"gold_{name}": None for name in NAMES}
    flags = [(g, oracle.classify(prompts[g.prompt].messages, g.text)) for g in answers]
    n = max(1, len(flags))
    harmless = [f for g, f in flags if "harmless" in prompts[g.prompt].tags]
    found: dict[str, Any] = {f"gold_{name}": sum(f[name] for _, f in flags) / n for name in NAMES}
    found["gold_needless_refusal"] = sum(f["needless_refusal"] for f in harmless) / max(1, len(harmless))
    themes = sorted({key for _, f in flags for key in f} - set(NAMES))
    found["themes"] = {
        theme: sum(f[theme] for _, f in flags if theme in f) / max(1, sum(theme in f for _, f in flags))
        for theme in themes
    }
    return found


def moved(oracle: Oracle | None, prompts: Mapping[Id, Prompt], pairs: Pairs) -> dict[str, dict[str, Any]]:
    """By flag and theme of the truth, how much more often an answer after has it than the one before: the mean over all
    prompts of 1, 0 or -1, paired, with a 95% interval; and on how many it `speaks` of both answers (on the
    others it counts as 0). Empty without an oracle."""
    if oracle is None:
        return {}
    seen = [
        (oracle.classify(messages, before.text), oracle.classify(messages, after.text))
        for before, after in pairs
        for messages in (prompts[before.prompt].messages,)
    ]
    found = {}
    for name in sorted({name for both in seen for flags in both for name in flags}):
        both = [name in old and name in new for old, new in seen]
        values = [
            float(new[name]) - float(old[name]) if spoken else 0.0
            for (old, new), spoken in zip(seen, both, strict=True)
        ]
        found[name] = {"speaks": sum(both), **interval_of(values, least=-1.0).as_dict()}
    return found
