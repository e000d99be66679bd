"""Whether a retrained model takes the place of the one that is promoted: promoted, proposed or refused.

A model that was good enough is there already, so nothing has to be done, and nobody need be watching. One that was
retrained is

- promoted where it is better by the gate as it stands, or where it is shown to have done what the amendment asks and
  loses nothing: no loss is shown of what was not amended, its win rate is not below one half, and the lower end of the
  interval lies above a floor (`retrain.min_win_rate`). An amendment that only takes away (a principle, weight, a tier,
  a veto) or changes no question asks for nothing, so there is nothing to have done: the model has to be better;
- refused where it is shown to be worse or to have lost something, or where a condition of the gate that is not about
  being better does not hold;
- proposed otherwise: nothing speaks against it, and not enough for it. A person looks, and confirms it.

Being as good is not enough by itself: of models whose win rate is .48, an interval above .45 lets through most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.metrics import effects, words
from pipeline.metrics.effects import Effect
from pipeline.promote import Gate, decide

EVEN = 0.5


@dataclass(frozen=True)
class Outcome:
    """At most one of the two is true. `reasons`: each condition of the way that decided, and what was found."""

    promoted: bool
    proposed: bool
    reasons: tuple[str, ...]

    @property
    def word(self) -> str:
        return "promoted" if self.promoted else "proposed" if self.proposed else "refused"


def settle(
    gate: Gate,
    floor: float,
    evaluation: Mapping[str, Any],
    found: Sequence[Effect],
    agreement: Mapping[str, Any] | None,
    ratified: bool,
    besides: Sequence[tuple[bool, str]] = (),
) -> Outcome:
    """`found`: the effects of the amendment; `floor`: of the lower end of the win rate's interval, for a model that did
    what was asked; `besides`: as for `pipeline.promote.decide`."""
    win = evaluation["win_rate"]
    losses = effects.losses(found)
    told = [(True, f"{e.principle} was {e.change}: {e.said}") for e in found if _silent(e)]
    better = decide(gate, evaluation, agreement, ratified, [*besides, *losses, *told])
    if better.promoted:
        return Outcome(True, False, better.reasons)

    low = min(floor, gate.min_win_rate)
    controlled = None if gate.min_length_controlled is None else min(low, gate.min_length_controlled)
    asked = effects.fulfilled(found)
    even = win["mean"] is not None and win["mean"] >= min(EVEN, gate.min_win_rate)
    no_worse = (even, f"win rate {words.number(win['mean'])}, may not be below one half, which is probably worse")
    others = [(True, f"{e.principle} was {e.change}: {e.said}") for e in found if _silent(e) and not e.asked]
    as_good = decide(
        replace(gate, min_win_rate=low, min_length_controlled=controlled),
        evaluation, agreement, ratified, [no_worse, *besides, *asked, *losses, *others],
    )  # fmt: skip
    if asked and as_good.promoted:
        return Outcome(True, False, as_good.reasons)

    worse = win["high"] is None or win["high"] < min(EVEN, gate.min_win_rate)
    rest = replace(
        gate, min_win_rate=-1.0, min_length_controlled=None, min_prompts=0
    )  # too few to tell: a person looks
    sound = decide(rest, evaluation, agreement, ratified, [(not worse, ""), *besides, *losses])
    return Outcome(False, sound.promoted, (as_good if asked else better).reasons)


def _silent(effect: Effect) -> bool:
    """What was amended and is not seen to have moved the model its way: it is said, whatever is decided."""
    said_already = effect.asked and effect.lost  # among the losses
    return effect.change != "none" and effect.found != "towards" and not said_already
