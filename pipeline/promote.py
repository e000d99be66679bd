"""The gate: what must hold for a checkpoint to be promoted, and the reasons when it is refused.

The gate reads an evaluation and, where it asks for them, people's spot checks. It never reads the truth of a sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_LEFT_OUT = 0.1  # of the held-out prompts: what is said of the rest is said of too few of them


@dataclass(frozen=True)
class Gate:
    """Written in the settings, before the run. Rates are fractions; None leaves a condition out."""

    min_win_rate: float = 0.5  # the lower end of the 95% interval has to be above this
    min_length_controlled: float | None = 0.5
    max_refusal_increase: float | None = 0.05  # of harmless requests
    max_length_ratio: float | None = 1.5  # mean tokens, after / before
    max_unreadable: float = 0.2
    max_truncated: float | None = 0.05  # answers cut at the token limit
    max_boilerplate_increase: float | None = 0.2  # answers with a sentence that 5% of all answers share
    min_agreement: float | None = None  # Gwet's AC1 of people with the judge, lower end of its interval
    min_spot_checks: int = 0


@dataclass(frozen=True)
class Decision:
    promoted: bool
    reasons: tuple[str, ...]  # each condition, and what was found


def decide(
    gate: Gate,
    evaluation: Mapping[str, Any],
    agreement: Mapping[str, Any] | None,
    ratified: bool,
    besides: Sequence[tuple[bool, str]] = (),
) -> Decision:
    """Promote only if every condition holds, those `besides` the gate's own too: an amendment's, the suites'
    (`pipeline.suites.conditions`). A figure that could not be had fails its condition."""
    before, after = evaluation["before"], evaluation["after"]
    win, controlled = evaluation["win_rate"], evaluation["length_controlled"]
    checks: list[tuple[bool, str]] = [
        (ratified, "the constitution is ratified" if ratified else "the constitution is not ratified: ratify it first"),
        (
            win["low"] is not None and win["low"] > gate.min_win_rate,
            "no comparison could be read"
            if win["low"] is None
            else f"win rate {win['mean']:.3f}, 95% interval {win['low']:.3f} to {win['high']:.3f}, "
            f"has to lie above {gate.min_win_rate}",
        ),
        (
            evaluation["unreadable"] <= gate.max_unreadable,
            f"{evaluation['unreadable']:.1%} of the comparisons could not be read, at most {gate.max_unreadable:.0%}",
        ),
    ]
    lost, asked = sum(evaluation.get("omitted", {}).values()), evaluation.get("prompts", 0)
    if lost:
        checks.append(
            (
                lost <= MOST_LEFT_OUT * asked,
                f"{lost} of {asked} held-out prompts were left out, for both models alike (too long, or refused), at "
                f"most {MOST_LEFT_OUT:.0%}",
            )
        )
    if gate.min_length_controlled is not None:
        checks.append(
            (
                controlled is not None and controlled > gate.min_length_controlled,
                f"length-controlled win rate {_known(controlled)}, has to be above {gate.min_length_controlled}",
            )
        )
    refused = (before["refusals_of_harmless"], after["refusals_of_harmless"])
    if gate.max_refusal_increase is not None and refused[0] is not None and refused[1] is not None:
        checks.append(
            (
                refused[1] - refused[0] <= gate.max_refusal_increase,
                f"refusals of harmless requests {refused[0]:.1%} before, {refused[1]:.1%} after, "
                f"may rise by {gate.max_refusal_increase:.0%}",
            )
        )
    if gate.max_truncated is not None:
        cut = after["truncated"]
        found = f"{cut:.1%} of the answers were cut, at most {gate.max_truncated:.0%}"
        checks.append((cut <= gate.max_truncated, found))
    if gate.max_boilerplate_increase is not None:
        stock = before["boilerplate"], after["boilerplate"]
        checks.append(
            (
                stock[1] - stock[0] <= gate.max_boilerplate_increase,
                f"answers with stock sentences {stock[0]:.1%} before, {stock[1]:.1%} after, "
                f"may rise by {gate.max_boilerplate_increase:.0%}",
            )
        )
    if gate.max_length_ratio is not None and before["mean_tokens"]:
        ratio = after["mean_tokens"] / before["mean_tokens"]
        checks.append(
            (ratio <= gate.max_length_ratio, f"answers are {ratio:.2f} times as long, at most {gate.max_length_ratio}")
        )
    if gate.min_spot_checks:
        seen = agreement["count"] if agreement else 0
        checks.append((seen >= gate.min_spot_checks, f"{seen} random spot checks, at least {gate.min_spot_checks}"))
    if gate.min_agreement is not None:
        low = agreement["ac1"]["low"] if agreement and agreement["count"] else None
        found = "no spot checks" if low is None else f"agreement with people (AC1) at least {low:.3f}"
        checks.append((low is not None and low >= gate.min_agreement, f"{found}, has to be {gate.min_agreement}"))
    checks += besides
    return Decision(
        promoted=all(held for held, _ in checks),
        reasons=tuple(("held: " if held else "failed: ") + reason for held, reason in checks),
    )


def _known(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"
