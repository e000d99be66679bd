"""Whether a judge's answer to a question comes from the two answers, or from the order in which they are shown.

That the two orders often name different answers is no fault by itself: a small judge answers by position wherever a
principle does not apply to the pair, and may be right wherever it does. So three signs are looked for, each of which an
answer that comes from the order, or from nothing, shows only by chance; any one is enough:

- the two orders' probabilities for one answer go up and down together over pairs (their correlation is above 0);
- verdicts that vote stand by an answer: of two pairs with an answer in common, both name it or neither does, more often
  than half (an order of preference among three answers would do it twice in three times, a coin once in two);
- on pairs that were revised under this very principle the revision is preferred, or both orders agree
  (`consistency.Probe`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from constitution.records import PROBABILITY, Comparison, Id
from pipeline.metrics.consistency import Probe
from pipeline.metrics.intervals import Z_TWO, Share
from pipeline.metrics.voting import Votes, agree, even

ENOUGH_PAIRS = 100  # readable ones, before anything is said of a principle's orders
ENOUGH_PROBES = 20
FEWEST_SHARED = 10  # times that two voting verdicts have an answer in common, before they are a sign of anything
BY_CHANCE, BY_PREFERENCE = 1 / 2, 2 / 3  # how often they then stand by it: see above


@dataclass(frozen=True)
class Orders:
    """How a principle's verdicts are, in both orders. `correlation` of the two orders' probabilities over pairs, and
    its one-sided 97.5% lower bound `at_least`; None where one order always says the same. `stands`: of two voting
    verdicts with an answer in common, those that both name it or both do not; None where that was not looked up."""

    same: Share  # of the readable verdicts that are not exactly even, those whose two orders name the same answer
    bears: int
    correlation: float | None
    at_least: float | None
    stands: Share | None = None
    probe: Probe | None = None

    @property
    def go_together(self) -> bool:
        return self.at_least is not None and self.at_least > 0

    @property
    def read(self) -> bool:
        """Whether any sign shows that the answers are read."""
        stands = self.stands is not None and self.stands.of >= FEWEST_SHARED and self.stands.low > BY_CHANCE
        probe = self.probe is not None and not self.probe.at_chance
        return self.go_together or stands or probe

    @property
    def enough(self) -> bool:
        """Whether the signs, had they been there, would have shown. Where no verdict votes nothing can be missed."""
        stands = self.stands is not None and self.stands.high < BY_PREFERENCE
        probe = self.probe is not None and self.probe.readable >= ENOUGH_PROBES
        return self.same.of >= ENOUGH_PAIRS and (self.bears == 0 or stands or probe)

    def as_dict(self) -> dict[str, Any]:
        probe = self.probe
        return {
            "same": self.same.as_dict(),
            "correlation": self.correlation,
            "correlation_at_least": self.at_least,
            "stands": self.stands.as_dict() if self.stands else None,
            "probe": {"readable": probe.readable, "consistent": probe.consistent, "revision": probe.revision}
            if probe
            else None,
        }


def orders(
    votes: Votes, principle: int, known: Mapping[Id, Comparison] | None = None, probe: Probe | None = None
) -> Orders:
    """`known`: the comparisons on which the principle votes, as far as they were looked up."""
    rows = votes.readable[:, principle] & ~even(votes.p1[:, principle], votes.p2[:, principle])
    p1, p2 = votes.p1[rows, principle], votes.p2[rows, principle]
    correlation, at_least = _correlation(p1 / PROBABILITY, p2 / PROBABILITY)
    return Orders(
        same=Share(int(agree(p1, p2).sum()), int(rows.sum())),
        bears=int(votes.bears[:, principle].sum()),
        correlation=correlation,
        at_least=at_least,
        stands=None if known is None else _stands(_named(votes, principle, known)),
        probe=probe,
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> tuple[float | None, float | None]:
    """Pearson's, and its lower bound by Fisher's transformation."""
    n = len(one)
    if n < 4 or one.std() < 1e-6 or other.std() < 1e-6:
        return None, None
    r = float(np.corrcoef(one, other)[0, 1])
    inside = min(max(r, -1 + 1e-12), 1 - 1e-12)
    return r, float(np.tanh(np.arctanh(inside) - Z_TWO / np.sqrt(n - 3)))


def _named(votes: Votes, principle: int, known: Mapping[Id, Comparison]) -> Iterable[tuple[Comparison, bool]]:
    """The comparisons on which it votes for one answer, each with whether the first is named."""
    s = votes.s(principle)
    for row in np.flatnonzero(votes.bears[:, principle] & (s != 0)):
        comparison = known.get(votes.comparisons[row])
        if comparison is not None:
            yield comparison, bool(s[row] > 0)


def _stands(named: Iterable[tuple[Comparison, bool]]) -> Share:
    """Each verdict is paired with at most one other at each of its answers, so that no pair of answers counts often."""
    waiting: dict[tuple[Id, Id], bool] = {}
    same = total = 0
    for comparison, first in named:
        for answer, preferred in ((comparison.first, first), (comparison.second, not first)):
            key = (comparison.prompt, answer)
            if key in waiting:
                same += waiting.pop(key) == preferred
                total += 1
            else:
                waiting[key] = preferred
    return Share(same, total)
