"""Which label rule suits a judge, chosen on pairs whose better answer is known.

Requiring both orders to agree suits a judge that never flips where a principle applies: what does not apply flips, and
so abstains. It throws away what a position-biased judge knows, whose two orders differ on most pairs and whose mean
(RLAIF, arXiv 2309.00267, section 3.1) is right all the same. Which of the two a judge is cannot be told from its name,
so each of a small family of rules makes the labels of the known pairs, by the arithmetic that makes all labels, and the
one whose p tells the better answers best (AUROC) is taken, where the pairs are enough to tell it from the settings'.

A pair has to be asked under all principles that will vote on such pairs: what those say that do not apply is what sets
the rules apart. Pairs that were asked under one principle each say nothing of that, and then nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constitution.records import PROBABILITY, LabelRule, Voice, make_id, probability
from pipeline.metrics import attribution, voting
from pipeline.metrics.intervals import Z_TWO

MARGINS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
ENOUGH = 40  # pairs, before anything is chosen
SURE = 1.0  # standard errors by which a rule has to be better than the settings'
MARGIN_WORTH = 0.005  # AUROC that a margin has to add to the rule without one
TIES = (0.05, 0.02, 0.01, 0.0)  # tie margins under the settings', should that one tie away what p tells


@dataclass(frozen=True, slots=True)
class Known:
    """What a judge said of a pair under one principle. `p1`, `p2`: as in `Verdict`, of the pair's first answer, in
    [0, 1]; `first_better`: what is known of the pair. `applies`: whether the principle is known to bear on it; where it
    is known not to, the row stands for what votes beside those that do."""

    pair: str
    principle: str
    p1: float
    p2: float
    mass1: float
    mass2: float
    first_better: bool
    applies: bool | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule on the known pairs. `auroc`: how probably p is higher where the first answer is the better than where the
    second is. `ahead`, `error`: by how much it is ahead of the settings' rule, and the standard error of that (pairs
    are the same for both). `votes`: the share of the pairs on which any principle votes."""

    name: str
    rule: LabelRule
    auroc: float
    ahead: float
    error: float
    votes: float


@dataclass(frozen=True)
class Chosen:
    """The rule, each candidate's figures, on how many pairs they rest, and why, in a sentence. `told`: the pairs have
    told the rules apart; else the rule is the settings'."""

    rule: LabelRule
    tried: Sequence[Tried]
    pairs: int
    told: bool
    why: str

    @property
    def auroc(self) -> dict[str, float]:
        """By the name of the rule."""
        return {one.name: one.auroc for one in self.tried}

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": name_of(self.rule), "why": self.why, "pairs": self.pairs, "told_apart": self.told,
            "auroc": {name: round(value, 4) if value == value else None for name, value in self.auroc.items()},
        }  # fmt: skip


def family(settings: LabelRule) -> list[LabelRule]:
    """The settings' rule, and what may stand in its place: verdicts of any order, or those alone whose orders agree,
    from some margin on. All else is as in the settings (`choose` may lower the tie margin)."""
    made = [
        replace(settings, consistent=consistent, min_margin=margin)
        for margin in (0.0, *MARGINS)
        for consistent in (False, True)
    ]
    return [settings, *(rule for rule in made if rule != settings)]


def name_of(rule: LabelRule) -> str:
    """In words."""
    orders = "both orders agree" if rule.consistent else "the mean of both orders"
    return orders + (f", margin {rule.min_margin:g}" if rule.min_margin else "")


def choose(known: Sequence[Known], settings: LabelRule, voices: Mapping[str, Voice | int] | None = None) -> Chosen:
    """The rule for the judge that said all of this. `voices`: by principle; without, all weigh the same."""
    pairs = dict.fromkeys(row.pair for row in known)
    n = len(pairs)
    every = tried(*_arrays(known), settings, voices) if n else []
    keeps = f"the settings' rule stays ({name_of(settings)}): "
    if n < ENOUGH:
        return Chosen(settings, every, n, False, keeps + f"{n} pairs with known answers are too few; {ENOUGH} would do")
    if len({row.principle for row in known}) > 1 and max(_rows_a_pair(known)) == 1:
        return Chosen(
            settings, every, n, False,
            keeps + "each known pair was asked under one principle, which does not show what the others say where they "
            "do not apply",
        )  # fmt: skip
    best = _best(every)
    if best.rule == settings:
        why = f"{name_of(settings)}: of {len(every)} rules the settings' tells {n} pairs with known answers best"
        return Chosen(settings, every, n, True, f"{why} (AUROC {every[0].auroc:.3f})")
    figures = f"AUROC {best.auroc:.3f} against {every[0].auroc:.3f} over {n} pairs with known answers"
    if best.ahead <= SURE * best.error:
        low, high = best.ahead - Z_TWO * best.error, best.ahead + Z_TWO * best.error
        why = (
            f"{keeps}the pairs are too few to tell it from the best ({name_of(best.rule)}: {figures}, difference "
            f"{best.ahead:+.3f}, 95% interval {low:+.3f} to {high:+.3f})"
        )
        return Chosen(settings, every, n, False, why)
    rule = _untied(best, *_arrays(known), voices)
    why = f"{name_of(best.rule)}: {figures} for the settings' ({name_of(settings)})"
    if rule.tie_margin < settings.tie_margin:
        why += f"; tied under {rule.tie_margin:g}, because {settings.tie_margin:g} would tie what it tells apart"
    return Chosen(rule, every, n, True, why)


def _untied(
    best: Tried,
    evidence: voting.Evidence,
    first_better: NDArray[np.bool_],
    voices: Mapping[str, Voice | int] | None,
) -> LabelRule:
    """The rule with the largest tie margin, up to its own, that costs no AUROC where a tie is a tie: the mean over many
    principles, or a timid judge, is near one half and right all the same."""
    own = best.rule.tie_margin
    for margin in (own, *(tie for tie in TIES if tie < own)):
        rule = replace(best.rule, tie_margin=margin)
        if with_ties(evidence, first_better, rule, voices)[0] >= best.auroc - MARGIN_WORTH:
            return rule
    return best.rule


def _best(tried: Sequence[Tried]) -> Tried:
    """The highest AUROC; one with a smaller margin where that is nearly as good: it has more labels."""
    top = max(one.auroc for one in tried)
    near = [one for one in tried if one.auroc >= top - MARGIN_WORTH]
    return min(near, key=lambda one: (one.rule.min_margin, one.rule.consistent))


def _rows_a_pair(known: Sequence[Known]) -> list[int]:
    count: dict[str, int] = {}
    for row in known:
        count[row.pair] = count.get(row.pair, 0) + 1
    return list(count.values())


def tried(
    evidence: voting.Evidence,
    first_better: NDArray[np.bool_],
    settings: LabelRule,
    voices: Mapping[str, Voice | int] | None = None,
) -> list[Tried]:
    """Each rule of the family, the settings' first, on n pairs by k principles."""

    found: list[Tried] = []
    base: NDArray[np.float64] | None = None
    for rule in family(settings):
        margins, votes = _margins(evidence, first_better, rule, voices)
        each = above(margins)
        base = each if base is None else base
        apart = each - base
        error = 2 * float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else float("inf")
        share = float(votes.any(axis=1).mean())
        found.append(Tried(name_of(rule), rule, float(each.mean()), float(apart.mean()), error, share))
    return found


def with_ties(
    evidence: voting.Evidence,
    first_better: NDArray[np.bool_],
    rule: LabelRule,
    voices: Mapping[str, Voice | int] | None = None,
) -> tuple[float, float]:
    """AUROC of the labels where a tie is a tie, and the share that is none."""
    margins, _ = _margins(evidence, first_better, rule, voices, ties=True)
    return float(above(margins).mean()), float((margins != 0).mean())


def _margins(
    evidence: voting.Evidence,
    first_better: NDArray[np.bool_],
    rule: LabelRule,
    voices: Mapping[str, Voice | int] | None,
    ties: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """2p - 1 of each label, above 0 for the better answer, and which verdicts vote. `ties`: 0 where it is tied."""
    names = {question.decode(): question for question in evidence.questions}
    said = {name: (voices or {}).get(name, 1_000) for name in names}
    # A pair is often asked under some of the principles: those that were not have no part in what is compared.
    votes = voting.votes(evidence, names, said, replace(rule, min_readable=0.0))
    p, outcome = attribution.labels(attribution.sums(votes), votes.rule)
    margins = np.where(first_better, 2 * p - PROBABILITY, PROBABILITY - 2 * p)
    return np.where(ties & (outcome == attribution.TIED), 0, margins), votes.bears


def above(margins: NDArray[Any]) -> NDArray[np.float64]:
    """Of each pair's margin for its better answer, how often it lies above what a pair shows whose answers are turned
    round: its mean is the AUROC, and twice its deviation over the root of n the standard error of that (a U-statistic's
    first projection: DeLong 1988)."""
    turned = np.sort(-margins)
    below, upto = (np.searchsorted(turned, margins, side) for side in ("left", "right"))
    found: NDArray[np.float64] = (below + upto) / (2 * len(margins))
    return found


def _arrays(known: Sequence[Known]) -> tuple[voting.Answered, NDArray[np.bool_]]:
    """n pairs by k principles, and which pairs' first answer is the better."""
    rows = {pair: row for row, pair in enumerate(dict.fromkeys(one.pair for one in known))}
    columns = {name: column for column, name in enumerate(dict.fromkeys(one.principle for one in known))}
    shape = (len(rows), len(columns))
    p1, p2, mass = (np.zeros(shape, np.int32) for _ in range(3))
    present, first_better = np.zeros(shape, np.bool_), np.zeros(len(rows), np.bool_)
    for one in known:
        here = rows[one.pair], columns[one.principle]
        p1[here], p2[here] = probability(one.p1), probability(one.p2)
        mass[here], present[here] = probability(min(one.mass1, one.mass2)), True
        first_better[here[0]] = one.first_better
    s = np.where(present, p1.astype(np.int64) + p2 - PROBABILITY, 0)
    ids = tuple(make_id("pair", pair=pair) for pair in rows)
    return voting.Answered(ids, tuple(name.encode() for name in columns), s, p1, p2, mass, present), first_better
