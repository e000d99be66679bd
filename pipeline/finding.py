"""A finding about a constitution, the shares it rests on, and how its sentence says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from constitution.records import WEIGHT, Id

Severity: TypeAlias = Literal["warning", "notice", "unknown"]
SEVERITIES: tuple[Severity, ...] = ("warning", "notice", "unknown")


@dataclass(frozen=True)
class Finding:
    """`sentence` holds the figures, `advice` what to do; `comparisons` to look at, the clearest first.

    A warning: labels are not what the file says. A notice: worth a thought. Unknown: too little evidence, or none.
    """

    kind: str
    principles: tuple[str, ...]
    severity: Severity
    sentence: str
    advice: str
    evidence: Mapping[str, Any]
    comparisons: tuple[Id, ...] = ()


@dataclass(frozen=True)
class Share:
    """`count` of `of`, with a 95% Wilson interval (0 to 1 where `of` is 0)."""

    count: int
    of: int

    def __str__(self) -> str:
        return "-" if self.value is None else f"{self.value:.0%}"

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None

    @property
    def low(self) -> float:
        return self.interval[0]

    @property
    def high(self) -> float:
        return self.interval[1]

    @cached_property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        from scipy.stats import binomtest

        found = binomtest(self.count, self.of).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "of": self.of, "share": self.value, "low": self.low, "high": self.high}


def listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def weighed(thousandths: int) -> str:
    return f"{thousandths / WEIGHT:g}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
