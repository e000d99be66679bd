"""A finding about a constitution, and how its sentence names principles, weights and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "severity": self.severity,
            "principles": list(self.principles),
            "sentence": self.sentence,
            "advice": self.advice,
            "evidence": dict(self.evidence),
            "comparisons": [id.hex() for id in self.comparisons],
        }


def listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def weighed(thousandths: int) -> str:
    return f"{thousandths / WEIGHT:g}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
