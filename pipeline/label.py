"""Labels are a query over verdicts: here is what the query is given, and what its answer is worth.

The arithmetic itself is `storage.labels`: integers, one code path for both databases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import PROBABILITY, Id, Label, Verdict
from pipeline.judges.judge import Judge


def weights(constitution: Constitution, judge: Judge) -> dict[Id, int]:
    """The weight of each question under a constitution. Principles with the same words share one: weights add."""
    by_principle = constitution.weights()
    total: dict[Id, int] = {}
    for principle in constitution.principles:
        question = judge.question(principle).id
        total[question] = total.get(question, 0) + by_principle[principle.id]
    return total


@dataclass(frozen=True)
class Consistency:
    """How a judge did on one question over some pairs. `consistent`: share of readable verdicts whose two orders name
    the same answer. `first_chosen`: how often the answer shown first was named: 1/2 without position bias."""

    readable: int
    unreadable: int
    consistent: float
    first_chosen: float


@dataclass(frozen=True)
class Probe:
    """What a judge said of pairs of an answer and its revision under one principle, asked about that principle alone.

    On many of these the principle bears (not on all: a critic also changes what was fine). `consistent`: share of the
    `readable` verdicts whose two orders name the same answer. `revision`: share of those that name the revision.
    """

    readable: int
    consistent: float
    revision: float

    @property
    def at_chance(self) -> bool:
        """Whether nothing shows that the judge reads this principle: neither is its consistency above guessing's 1/2,
        nor does it, where consistent, name the revision more often than the answer (one-sided 97.5% bounds)."""
        same = round(self.consistent * self.readable)
        return not (_above_half(self.consistent, self.readable) or _above_half(self.revision, same))


def _above_half(share: float, n: int) -> bool:
    return n > 0 and share > 0.5 + 1.96 * (0.25 / n) ** 0.5


def probe(verdicts: Iterable[tuple[Verdict, bool]], min_mass: float) -> Probe:
    """Verdicts, each with whether the revision is the comparison's first answer. Unreadable ones are left out."""
    floor, half = round(min_mass * PROBABILITY), PROBABILITY // 2
    readable = [(v, first) for v, first in verdicts if min(v.mass1, v.mass2) >= floor]
    same = [(v.p1 > half) == first for v, first in readable if (v.p1 > half) == (v.p2 > half)]
    return Probe(len(readable), len(same) / max(1, len(readable)), sum(same) / max(1, len(same)))


def consistency(verdicts: Iterable[Verdict], min_mass: float) -> dict[Id, Consistency]:
    """By question. An order that held less than `min_mass` makes its verdict unreadable."""
    floor = round(min_mass * PROBABILITY)
    half = PROBABILITY // 2
    seen: dict[Id, list[tuple[bool, float]]] = {}
    lost: Counter[Id] = Counter()
    for v in verdicts:
        rows = seen.setdefault(v.question, [])
        if min(v.mass1, v.mass2) < floor:
            lost[v.question] += 1
        else:
            rows.append(((v.p1 > half) == (v.p2 > half), ((v.p1 > half) + (v.p2 <= half)) / 2))
    return {
        question: Consistency(
            readable=len(rows),
            unreadable=lost[question],
            consistent=sum(same for same, _ in rows) / len(rows) if rows else 0.0,
            first_chosen=sum(first for _, first in rows) / len(rows) if rows else 0.5,
        )
        for question, rows in seen.items()
    }


def refuse_unreadable(found: Mapping[Id, Consistency], most: float) -> None:
    """Stop when more than the share `most` of the verdicts cannot be read: labels of the rest would be a guess at
    what the judge can say. Raises UserError with the rate and what to look at."""
    lost = sum(c.unreadable for c in found.values())
    total = lost + sum(c.readable for c in found.values())
    if total and lost / total > most:
        raise UserError(
            f"the judge's answers cannot be read: {lost} of {total} verdicts ({lost / total:.0%}) put too little "
            f"of the probability on A and B, more than the {most:.0%} that label.max_unreadable allows. Nothing was "
            "labelled. Look at the judge's chat template (thinking off: judge.template_args), try "
            'judge.answer_prefix = "The better reply is (", or use a model that follows instructions.'
        )


def counts(labels: Sequence[Label]) -> dict[str, int]:
    states = Counter(label.state for label in labels)
    return {"count": len(labels), **{s: states.get(s, 0) for s in ("decided", "tied", "unreadable")}}
