"""Whether a retrained model takes the place of the promoted one: what is better does, or what did what it was asked
and lost nothing; what nothing speaks against is proposed; what is worse is refused. On simulated models."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.metrics import effects
from pipeline.metrics.effects import Effect
from pipeline.promote import Gate
from pipeline.replacing import Outcome, settle

SIDE = {"refusals_of_harmless": 0.0, "truncated": 0.0, "boilerplate": 0.0, "mean_tokens": 40.0}
PROMPTS = 400
REPEATS = 250
ASKED = Effect("new", "added", 0.3, 0.2, 0.4, "towards", asked=True)
SILENT = Effect("new", "added", 0.0, -0.1, 0.1, "unclear", smallest=0.1, asked=True)
LOST = Effect("old", "none", -0.3, -0.4, -0.2, "away", p=0.0001, lost=True)
KEPT = Effect("old", "none", 0.0, -0.03, 0.03, "unchanged", p=0.5)

REMOVED = Effect("gone", "removed", None, None, None, "unclear")
LIGHTER = Effect("less", "reweighted", 0.0, -0.03, 0.03, "unchanged", p=0.5)
AWAY = Effect("told", "reworded", -0.3, -0.4, -0.2, "away", p=0.0001, lost=True, asked=True)
HEAVIER_AWAY = replace(AWAY, change="reweighted")


def evaluation(mean: float, low: float, high: float, **after: float) -> dict[str, Any]:
    still = {"mean": 0.0, "low": -0.01, "high": 0.01, "n": PROMPTS}
    return {
        "before": SIDE, "after": {**SIDE, **after}, "unreadable": 0.0, "prompts": PROMPTS,
        "win_rate": {"mean": mean, "low": low, "high": high, "prompts": PROMPTS}, "length_controlled": mean,
        "length_controlled_interval": {"mean": mean, "low": low, "high": high},
        "changes": {
            "refusals_of_harmless": still, "boilerplate": still,
            "length_ratio": {"mean": 1.0, "low": 0.9, "high": 1.1},
        },
    }  # fmt: skip


def settled(seen: dict[str, Any], *found: Effect) -> Outcome:
    return settle(Gate(), 0.45, seen, found, None, True)


@pytest.mark.parametrize(
    ("seen", "found", "word", "because"),
    [
        ((0.60, 0.55, 0.65), (ASKED, KEPT), "promoted", ""),
        ((0.60, 0.55, 0.65), (SILENT, KEPT), "promoted", "new was added: not shown to have moved it"),  # it is better
        ((0.51, 0.47, 0.55), (ASKED, KEPT), "promoted", ""),  # it did what was asked, and loses nothing
        ((0.51, 0.47, 0.55), (SILENT, KEPT), "proposed", "failed: new was added and has to move the model its way"),
        ((0.48, 0.46, 0.50), (ASKED, KEPT), "proposed", "failed: win rate 0.480, may not be below one half"),
        ((0.51, 0.40, 0.62), (ASKED, KEPT), "proposed", "has to lie above 0.45"),  # nobody knows
        ((0.46, 0.44, 0.48), (ASKED, KEPT), "refused", "failed: win rate 0.460"),  # it is worse
        ((0.60, 0.55, 0.65), (ASKED, LOST), "refused", "failed: old was not amended"),
        # Something was removed, or counts for less: nothing is asked for, so it has to be better.
        ((0.51, 0.47, 0.55), (KEPT, REMOVED), "proposed", "failed: win rate 0.510"),
        ((0.51, 0.47, 0.55), (KEPT, LIGHTER), "proposed", "failed: win rate 0.510"),
        ((0.51, 0.47, 0.55), (KEPT,), "proposed", "failed: win rate 0.510"),
        ((0.60, 0.55, 0.65), (KEPT, REMOVED), "promoted", ""),
        ((0.60, 0.55, 0.65), (AWAY, KEPT), "refused", "failed: told was reworded, and the model may not move away"),
        ((0.60, 0.55, 0.65), (HEAVIER_AWAY, KEPT), "refused", "failed: told was reweighted, and the model may not"),
    ],
)
def test_a_decision_has_three_outcomes(
    seen: tuple[float, float, float], found: tuple[Effect, ...], word: str, because: str
) -> None:
    outcome = settled(evaluation(*seen), *found)
    assert outcome.word == word
    assert because in "\n".join(outcome.reasons)
    assert (word != "promoted") == any(r.startswith("failed: ") for r in outcome.reasons)


def test_what_the_gate_refuses_for_other_reasons_is_not_proposed() -> None:
    assert settled(evaluation(0.60, 0.55, 0.65, truncated=0.5), ASKED, KEPT).word == "refused"
    assert settle(Gate(), 0.45, evaluation(0.6, 0.55, 0.65), (ASKED,), None, False).word == "refused"
    unread = evaluation(0.6, 0.55, 0.65) | {"win_rate": {"mean": None, "low": None, "high": None, "prompts": 0}}
    assert settled(unread, ASKED).word == "refused"
    outcome = settle(Gate(), 0.45, evaluation(0.6, 0.55, 0.65), (ASKED,), None, True, [(False, "not to promote")])
    assert outcome.word == "refused"


def test_on_too_few_prompts_a_person_looks() -> None:
    few = evaluation(0.7, 0.55, 0.85)
    few["win_rate"]["prompts"] = 30
    outcome = settled(few, ASKED, KEPT)
    assert outcome.word == "proposed" and "too few to tell" in "\n".join(outcome.reasons)


def test_away_from_what_was_added_is_refused() -> None:
    away = replace(SILENT, mean=-0.2, low=-0.3, high=-0.1, found="away", p=0.001, lost=True)
    assert settled(evaluation(0.6, 0.55, 0.65), away, KEPT).word == "refused"


def simulated(win: float, moved: float | None, repeats: int = REPEATS) -> Counter[str]:
    """Decisions on models of a true win rate, ten principles that nobody amended, and one that was added and moved so
    far; or, with None, one that was removed."""
    rng = np.random.default_rng(round(1000 * win))
    words: Counter[str] = Counter()
    for _ in range(repeats):
        drawn = lambda mean: rng.choice([1.0, 0.5, 0.0], size=PROMPTS, p=[mean - 0.3, 0.6, 0.7 - mean])  # noqa: E731
        wins = drawn(win)
        half = 1.96 * wins.std(ddof=1) / PROMPTS**0.5
        found = []
        for number in range(11):
            votes = 2 * drawn(0.5 + ((moved or 0.0) / 2 if number == 0 else 0.0)) - 1
            mean, width = votes.mean(), 1.96 * votes.std(ddof=1) / PROMPTS**0.5
            p = effects.sign_test(int((votes > 0).sum()), int((votes < 0).sum()))
            found.append((mean, mean - width, mean + width, p))
        corrected = effects.holm([p for *_, p in found[1:]])
        new = Effect("new", "added", *found[0][:3], effects.verdict(*found[0][1:3]), asked=True)
        made = [REMOVED if moved is None else new] + [
            Effect(f"old{i}", "none", m, low, high, effects.verdict(low, high), p, p <= 0.05 and low < -0.05)
            for i, ((m, low, high, _), p) in enumerate(zip(found[1:], corrected, strict=True))
        ]
        words[settled(evaluation(wins.mean(), wins.mean() - half, wins.mean() + half), *made).word] += 1
    return words


def test_a_worse_model_is_hardly_ever_promoted_and_a_better_one_nearly_always() -> None:
    worse = simulated(0.45, 0.3)
    assert worse["promoted"] / REPEATS < 0.03 and worse["refused"] > worse["proposed"]
    equal = simulated(0.5, 0.3)  # in all; of what it was asked it does more, so it lost a little everywhere else
    assert 0.4 < equal["promoted"] / REPEATS < 0.6 and equal["refused"] / REPEATS < 0.08
    idle = simulated(0.5, 0.0)
    assert idle["promoted"] / REPEATS < 0.06 and idle["proposed"] / REPEATS > 0.85
    better = simulated(0.56, 0.3)
    assert better["promoted"] / REPEATS > 0.93


def test_an_amendment_that_asks_for_nothing_promotes_only_what_is_better() -> None:
    """To have done what was not asked is nothing: of equal models hardly one is promoted for a removal."""
    equal, worse, better = simulated(0.5, None), simulated(0.48, None), simulated(0.56, None)
    assert equal["promoted"] / REPEATS < 0.03 and equal["proposed"] / REPEATS > 0.85
    assert worse["promoted"] / REPEATS < 0.03
    assert better["promoted"] / REPEATS > 0.8
