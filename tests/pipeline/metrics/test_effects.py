"""What an amendment did, by principle: which losses are shown, how often by chance, how large they have to be, and what
is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitution import loading
from constitution.difference import Diff, diff
from pipeline.metrics import effects
from pipeline.metrics.effects import Effect

ROOT = Path(__file__).parents[3]
SHIPPED = (ROOT / "principles.yaml").read_text(encoding="utf-8")
OLD = loading.parse(SHIPPED)
RULES = [p.id for p in OLD]


def normal(values: np.ndarray) -> dict[str, float]:
    """Mean with an interval that stands in for a bootstrap's, and the counts."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half, **effects.votes(values.tolist())}


def amended(text: str) -> Diff:
    return diff(OLD, loading.parse(text))


@cache
def heavier(weight: str = "4") -> Diff:
    """The first principle counts otherwise: the others are not amended."""
    lines = SHIPPED.splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith("weight:"))
    lines[at] = lines[at].partition(":")[0] + f": {weight}"
    return amended("\n".join(lines) + "\n")


def drawn(rng: np.random.Generator, count: int, effect: float, differ: float = 0.4) -> np.ndarray:
    """Votes of `count` prompts: `differ` of them for one side or the other, with this mean."""
    towards = (differ + effect) / 2
    return rng.choice([1.0, -1.0, 0.0], size=count, p=[towards, differ - towards, 1 - differ])


def looked(rng: np.random.Generator, count: int, losses: Mapping[str, float]) -> dict[str, Effect]:
    difference = heavier()
    seen = {name: normal(drawn(rng, count, losses.get(name, 0.0))) for name in RULES}
    return {e.principle: e for e in effects.look(difference, seen)}


@pytest.mark.parametrize("count", [25, 100, 300])
def test_of_an_equal_model_hardly_any_loss_is_shown(count: int) -> None:
    """Nine or ten principles that nobody amended, 400 equal models: under one in twenty is refused for any of them."""
    rng = np.random.default_rng(count)
    alarms = sum(any(e.lost for e in looked(rng, count, {}).values() if e.change == "none") for _ in range(400))
    assert alarms / 400 <= 0.05


def test_a_loss_of_what_could_be_seen_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(5)
    unamended = next(e.principle for e in looked(rng, 300, {}).values() if e.change == "none")
    small = np.mean([looked(rng, 300, {})[unamended].smallest or 1 for _ in range(20)])
    assert 0.05 < small < 0.15
    found = [looked(rng, 300, {unamended: -float(small)})[unamended].lost for _ in range(200)]
    assert 0.7 <= np.mean(found) <= 0.92  # it counts only where the interval reaches beyond what is allowed
    larger = [looked(rng, 300, {unamended: -1.6 * float(small)})[unamended].lost for _ in range(50)]
    assert np.mean(larger) > 0.98


def test_holm_and_the_sign_test_are_those_of_the_books() -> None:
    # Holm 1979: the ordered p-values times 4, 3, 2, 1, never falling.
    assert effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert effects.sign_test(0, 5) == pytest.approx(1 / 32)
    assert effects.sign_test(2, 8) == pytest.approx(56 / 1024)  # of 10 coins at least 8 one way
    assert effects.sign_test(0, 0) == 1.0


def test_with_few_votes_the_smallest_loss_is_what_an_exact_test_can_show() -> None:
    # Ten tests at 5% in all: eight votes, all against, are the fewest that reach .005.
    assert effects.smallest(0, 0, 100, 10) == pytest.approx(8 / 100)
    assert effects.sign_test(0, 8) <= 0.005 < effects.sign_test(0, 7)
    assert effects.smallest(0, 0, 5, 10) is None  # nothing could be shown at all
    assert effects.smallest(0, 0, 0) is None


ADDED = """
  - id: inviting
    title: Offer more help
    critique: Find any way in which the reply ends with no offer of more help.
    revision: Rewrite the reply so that it ends with an offer of more help.
    comparison: Which reply ends with an offer of more help?
"""


def said_of(change: Diff, name: str, values: list[float]) -> Effect:
    seen: dict[str, Any] = {name: normal(np.array(values))}
    return next(e for e in effects.look(change, seen) if e.principle == name)


def test_every_case_is_said_in_words_that_are_true() -> None:
    name = RULES[-1]
    votes = lambda up, down, none: [1.0] * up + [-1.0] * down + [0.0] * none  # noqa: E731
    few = said_of(heavier(), name, votes(3, 4, 3))
    assert few.said.startswith("not shown: a loss under ") and few.said.endswith(" could not have been seen")
    within = said_of(heavier(), name, votes(2, 34, 964))
    assert within.found == "away" and within.said == "lost 3.2, within the 5 allowed" and not within.lost
    stays = said_of(heavier(), name, votes(20, 20, 960))
    assert stays.found == "unchanged" and stays.said == "within 5 of where it was"
    gone = said_of(heavier(), name, votes(10, 60, 30))
    assert gone.lost and gone.said == "lost 50, more than chance by a test of all together (p under 0.001)"
    assert not [held for held, _ in effects.losses([gone]) if held]
    nothing = said_of(amended(SHIPPED.rstrip() + "\n" + ADDED), "inviting", votes(4, 3, 93))
    assert nothing.asked and nothing.said.startswith("not shown to have moved it (it was asked to): a move under ")
    old = {k: v for k, v in within.as_dict().items() if k not in ("p", "lost", "smallest", "asked")}
    assert effects.said(old) == "lost 3.2, within the 5 allowed"  # of a result that was stored before
    assert effects.said({"mean": None, "low": None, "high": None}) == "nothing could be read"


def test_what_an_amendment_asks_for_is_told_from_what_it_only_lets_go() -> None:
    assert [e.principle for e in effects.look(heavier("9"), {}) if e.asked] == [RULES[0]]
    tier = amended(SHIPPED.replace("    weight:", "    tier: 1\n    weight:", 1))
    assert [(e.principle, e.change) for e in effects.look(tier, {}) if e.asked] == [(RULES[0], "reweighted")]
    lighter = effects.look(heavier("0.01"), {})
    assert [(e.principle, e.asked) for e in lighter if e.change == "reweighted"] == [(RULES[0], False)]
    removed = effects.look(diff(loading.parse(SHIPPED.rstrip() + "\n" + ADDED), OLD), {})
    assert [(e.principle, e.asked) for e in removed if e.change == "removed"] == [("inviting", False)]
    title = SHIPPED.replace("title: ", "title: The ", 1)
    assert not [e for e in effects.look(amended(title), {}) if e.change != "none"]


@pytest.mark.parametrize(
    ("amendment", "change", "refused"),
    [("heavier", "reweighted", True), ("reworded", "reworded", True), ("lighter", "reweighted", False)],
)
def test_away_from_what_was_reworded_or_made_heavier_is_a_loss_by_its_own_test(
    amendment: str, change: str, refused: bool
) -> None:
    comparison = OLD.principles[0].comparison
    difference = {
        "heavier": lambda: heavier("9"),
        "reworded": lambda: amended(SHIPPED.replace(comparison[:20], "Judge this. " + comparison[:20], 1)),
        "lighter": lambda: heavier("0.1"),
    }[amendment]()
    seen = {name: normal(np.array([1.0, -1.0, 0.0] * 100)) for name in RULES}
    seen[RULES[0]] = normal(np.array([-1.0] * 150 + [1.0] * 30 + [0.0] * 120))
    found = {e.principle: e for e in effects.look(difference, seen)}
    away = found[RULES[0]]
    assert (away.change, away.lost) == (change, True)
    assert away.said == "lost 40, more than chance by its own test (p under 0.001)"
    against = [reason for holds, reason in effects.losses(list(found.values())) if not holds]
    assert against == (
        [f"{RULES[0]} was {change}, and the model may not move away from it: {away.said}"] if refused else []
    )
