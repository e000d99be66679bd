"""Whether a judge is trusted, by how often it was right on pairs whose better answer is known: three verdicts in words.

- **trusted**: more right than wrong by more than chance (exact sign test, one-sided 97.5%);
- **at chance or inverted**: a judge that is right on 80% would be seen to be this bad in fewer than one trial of forty,
  and it is right on no more than half; or 65% can be ruled out in the same way;
- **too few to say**: neither, and how many pairs would settle it;
- **seen in one order only**: more right than wrong, but of recorded verdicts that have one order of the two: a judge
  that names a place is as right as one that reads, where the better answer stood there. Never of a judge that is asked.

A unit is a prompt, not a pair: pairs on one prompt are alike, so each prompt counts once, as right (more than half of
its pairs), wrong, or neither. Neither counts for no side of the test, and as half in a mean.

Several principles at once: a judge that is trusted in all has each principle tested with Holm's correction over the
principles (Holm 1979). One that is not may still be good at one principle; that is tried at 0.5% over all of them, so
that a judge at chance is believed in anything in at most 2.5% + 0.5% of trials. Thresholds were chosen by simulation:
`benchmarks/trials.py` prints the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor
from typing import Literal, TypeAlias

from pipeline.metrics.intervals import binomial_low

LEVEL = 0.025  # one-sided
RESCUE = 0.005  # over all principles, where the judge is not trusted in all
GOOD = 0.8  # the accuracy that a judge is hoped to have
POOR = 0.65  # one that is ruled out to be better than this is of no use as a labeller
POWER = 0.95
SLOWEST = 0.6  # the least accuracy that a number of pairs is named for: 0.55 would want 1,300

Word: TypeAlias = Literal["trusted", "at chance or inverted", "too few to say", "seen in one order only"]
TRUSTED: Word = "trusted"
AT_CHANCE: Word = "at chance or inverted"
TOO_FEW: Word = "too few to say"
ONE_ORDER: Word = "seen in one order only"


@dataclass(frozen=True, slots=True)
class Score:
    """How a judge did on prompts with known answers: `right` and `wrong` of `prompts`, the rest neither. `mean`: the
    mean over prompts of the share of its pairs that were right, a tie as half."""

    right: int
    wrong: int
    prompts: int
    mean: float

    @property
    def chance(self) -> float:
        """Probability that a judge who guesses is right at least so often (exact sign test)."""
        return _at_least(self.right, self.right + self.wrong, 0.5)

    def this_bad(self, accuracy: float) -> float:
        """Probability that a judge of `accuracy` is seen to be right so seldom, neither counting as half."""
        return _at_most(self.right + (self.prompts - self.right - self.wrong) // 2, self.prompts, accuracy)

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95% interval (Clopper and Pearson 1934) of the mean, as of `prompts` independent ones, a half that
        is left over counting against each end: where all are right or wrong, its low end is above one half just where
        the test says so. Never of width zero; 0 to 1 where there is no prompt."""
        if not self.prompts:
            return 0.0, 1.0
        hits = self.mean * self.prompts
        low, high = floor(hits + 1e-9), floor(self.prompts - hits + 1e-9)
        return binomial_low(low, self.prompts), 1 - binomial_low(high, self.prompts)


def score(by_prompt: Sequence[float]) -> Score:
    """Of each prompt, the share of its pairs that were right."""
    right, wrong = sum(value > 0.5 for value in by_prompt), sum(value < 0.5 for value in by_prompt)
    return Score(right, wrong, len(by_prompt), sum(by_prompt) / len(by_prompt) if by_prompt else 0.5)


def word(found: Score, level: float = LEVEL) -> Word:
    """The verdict of one score by itself, tested at `level`."""
    if found.right > found.wrong and found.chance <= level:
        return TRUSTED
    if not found.prompts:
        return TOO_FEW
    no_better = found.mean <= 0.5 and found.this_bad(GOOD) <= LEVEL
    return AT_CHANCE if no_better or found.this_bad(POOR) <= LEVEL else TOO_FEW


def in_one_order(said: Word, in_both: Word) -> Word:
    """The verdict over all rows, `said`, where some have one order only: trust takes those with both, `in_both`."""
    return ONE_ORDER if said == TRUSTED and in_both != TRUSTED else said


def by_place(first: Score, last: Score) -> float:
    """Probability that a judge which only prefers a place is so often right, of one order each, the better answer shown
    first on some prompts and last on others (Fisher's exact test, one-sided; ties count for no side)."""
    from scipy import stats

    table = [[first.right, first.wrong], [last.wrong, last.right]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def words(in_all: Score, by_principle: Mapping[str, Score]) -> tuple[Word, dict[str, Word]]:
    """The verdict in all, and of each principle, corrected for how many there are."""
    said = word(in_all)
    levels = _holm(by_principle, LEVEL if said == TRUSTED else RESCUE)
    return said, {name: word(found, levels[name]) for name, found in by_principle.items()}


def _holm(scores: Mapping[str, Score], level: float) -> dict[str, float]:
    """The level at which each is tested: the smallest p at level / k, the next at level / (k - 1), and no further ones
    after the first that fails (their level is 0)."""
    levels: dict[str, float] = {}
    passing = True
    for left, name in zip(range(len(scores), 0, -1), sorted(scores, key=lambda n: scores[n].chance), strict=True):
        levels[name] = level / left if passing else 0.0
        passing = passing and scores[name].chance <= level / left
    return levels


@lru_cache(maxsize=256)
def needed(accuracy: float = GOOD, level: float = LEVEL, power: float = POWER) -> int:
    """How many prompts a judge of this accuracy has to be tried on to be trusted with this power: the least number from
    which on the exact test has it (its power goes up and down with the number, so one that has it alone is not enough).

    Raises ValueError for an accuracy that is no better than chance.
    """
    if not 0.5 < accuracy <= 1:
        raise ValueError(f"no number of pairs shows that a judge of accuracy {accuracy} is better than chance")
    most = 8
    while _power(most, accuracy, level) < power or _power(most + 1, accuracy, level) < power:
        most *= 2
    n = most + 32
    while n > 1 and _power(n - 1, accuracy, level) >= power:
        n -= 1
    return n


def more(found: Score, level: float = LEVEL) -> int:
    """How many prompts more would settle what is `TOO_FEW`: for a judge of 80%, and where that was tried already, for
    one that is as good as it was seen to be. At least 1."""
    tried = found.right + found.wrong
    wanted = needed(GOOD, level)
    if wanted <= tried:
        wanted = needed(round(min(GOOD, max(SLOWEST, found.mean)), 2), level)
    return max(1, wanted - tried)


def _power(n: int, accuracy: float, level: float) -> float:
    least = _least_right(n, level)
    return _at_least(least, n, accuracy) if least <= n else 0.0


def _least_right(n: int, level: float) -> int:
    """How many of n have to be right for the sign test to say so; n + 1 where even all are too few."""
    from scipy import stats

    count = int(stats.binom.isf(level, n, 0.5)) + 1
    return next((c for c in range(max(0, count - 1), n + 1) if _at_least(c, n, 0.5) <= level), n + 1)


@lru_cache(maxsize=65_536)
def _at_least(count: int, of: int, accuracy: float) -> float:
    from scipy import stats

    return float(stats.binom.sf(count - 1, of, accuracy)) if of else 1.0


@lru_cache(maxsize=65_536)
def _at_most(count: int, of: int, accuracy: float) -> float:
    from scipy import stats

    return float(stats.binom.cdf(count, of, accuracy))
