"""Figures in words, in one place: a rounded figure never says more than the figure.

"0%" is said of none and "100%" of all; a rate that is not one half is never printed as one. Pure text: what is said
here is printed by the command line, the report, the gate and Prefect's pages alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIGITS = 6  # at most, of a figure that lies near to what it is compared with


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent. What would be rounded to none or to all, and is neither, says so: `<0.1%`, `>99.9%`."""
    if share is None or share != share:
        return "-"
    least = 10.0**-digits
    shown = f"{100 * share:.{digits}f}"
    if share > 0 and float(shown) == 0:
        return f"<{least:.{digits}f}%"
    if share < 1 and float(shown) == 100:
        return f">{100 - least:.{digits}f}%"
    return f"{shown}%"


def number(value: float | None, digits: int = 3, beside: float | None = 0.5) -> str:
    """A figure with so many digits, or more where it would else be printed as `beside`, which it is not."""
    if value is None or value != value:
        return "-"
    if beside is not None and value != beside:
        while digits < DIGITS and float(f"{value:.{digits}f}") == beside:
            digits += 1
    return f"{value:.{digits}f}"


def points(change: float) -> str:
    """How large a change of a share is, in points, without its sign."""
    size = 100 * abs(change)
    return f"{size:.1f}" if round(size, 1) or not size else "<0.1"


def signed(change: float | None) -> str:
    """A change of a share in points, with its sign."""
    if change is None or change != change:
        return "-"
    return f"{'+' if change > 0 else '-' if change < 0 else ''}{points(change)}"


def moved(change: float) -> str:
    """`rose by 3.2 points`, `fell by 1.0 points`, `did not change`."""
    return f"{'rose' if change > 0 else 'fell'} by {points(change)} points" if change else "did not change"


def interval(found: Mapping[str, Any], digits: int = 3, beside: float | None = 0.5) -> str:
    """`95% interval 0.881 to 0.917`; nothing where there is none."""
    if found.get("low") is None or found.get("high") is None:
        return ""
    return f"95% interval {number(found['low'], digits, beside)} to {number(found['high'], digits, beside)}"


def in_points(found: Mapping[str, Any]) -> str:
    """The interval of a change of a share, `95% interval -1.0 to +7.4`; nothing where there is none."""
    if found.get("low") is None or found.get("high") is None:
        return ""
    return f"95% interval {signed(found['low'])} to {signed(found['high'])}"


def outcome(win: Mapping[str, Any]) -> str:
    """`better on 71%, worse on 4%, no difference on 25%`; nothing where it was not counted (figures of before)."""
    if win.get("better") is None:
        return ""
    better, worse, same = (percent(win[name], 0) for name in ("better", "worse", "no_difference"))
    return f"better on {better}, worse on {worse}, no difference on {same}"


def win_rate(win: Mapping[str, Any]) -> str:
    """`better on 71%, worse on 4%, no difference on 25%; win rate 0.835 with ties as half (95% interval 0.80 to
    0.87)`."""
    if win.get("mean") is None:
        return "no comparison could be read"
    counted, spread = outcome(win), interval(win)
    rate = f"win rate {number(win['mean'])} with ties as half" + (f" ({spread})" if spread else "")
    return f"{counted}; {rate}" if counted else rate
