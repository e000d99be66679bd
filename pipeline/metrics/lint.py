"""What stored verdicts say against a constitution: findings with their evidence, not opinions about wording.

A finding needs enough pairs to rest on; where there are too few it says so instead. All of it is about what *this*
judge answered on *these* pairs. Whether an answer comes from the order is `orders.py`'s question, and what two
principles have in common `pairings.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from constitution.records import WEIGHT, Comparison, Id
from pipeline.metrics.attribution import Flips, flips, labels, sums, without
from pipeline.metrics.consistency import Probe
from pipeline.metrics.finding import SEVERITIES, Finding, counted, listed, weighed
from pipeline.metrics.orders import Orders, orders
from pipeline.metrics.pairings import Pairing, conflicts, pairings, redundant
from pipeline.metrics.voting import Votes

ENOUGH_LABELS = 100  # before "it changes none" is said: none of 100 may still be one in 27


@dataclass(frozen=True)
class Figures:
    """One principle. `judged`, `unreadable`, `bears`: verdicts; `flips`: what leaving it out does to labels."""

    principle: str
    weight: int
    judged: int
    unreadable: int
    bears: int
    orders: Orders
    flips: Flips

    @property
    def by_order(self) -> bool:
        """Whether nothing shows that its answers are read, though it would have shown."""
        return self.orders.enough and not self.orders.read


@dataclass(frozen=True)
class Lint:
    """`comparisons`: how many were looked at. A principle without a verdict has no figures."""

    comparisons: int
    figures: list[Figures]
    pairings: list[Pairing]
    findings: list[Finding]


def unproven(votes: Votes) -> dict[str, tuple[Id, ...]]:
    """Principles whose two orders do not go up and down together, with the comparisons on which they vote: `lint` wants
    to know which answers these have in common."""
    return {
        name: tuple(votes.comparisons[row] for row in np.flatnonzero(votes.bears[:, i]))
        for i, name in enumerate(votes.principles)
        if not orders(votes, i).go_together
    }


def lint(votes: Votes, known: Mapping[Id, Comparison] | None = None, probes: Mapping[str, Probe] | None = None) -> Lint:
    """`known`: the comparisons of `unproven`; `probes`: by principle, where a run asked them."""
    # What was never judged has no part in the labels here: else all of them might be unreadable for its sake.
    some = votes.part(principles=judged(votes))
    figures = _figures(some, known or {}, probes or {})
    outcomes = labels(sums(some), some.rule)[1]
    together = pairings(some, outcomes)
    found = [*_not_judged(votes), *_same_words(votes), *_orders(figures), *_idle(some, figures)]
    found += [*redundant(some, outcomes, together), *conflicts(some, together), *_too_little(figures)]
    return Lint(
        len(votes.comparisons), figures, together, sorted(found, key=lambda each: SEVERITIES.index(each.severity))
    )


def judged(votes: Votes) -> list[str]:
    """The principles that have a verdict at all."""
    return [name for i, name in enumerate(votes.principles) if votes.present[:, i].any()]


def _figures(votes: Votes, known: Mapping[Id, Comparison], probes: Mapping[str, Probe]) -> list[Figures]:
    left_out = flips(votes)
    found = []
    for i, name in enumerate(votes.principles):
        seen = orders(votes, i)
        if not seen.go_together:
            seen = orders(votes, i, known, probes.get(name))
        readable, present = votes.readable[:, i], votes.present[:, i]
        unreadable, bears = int((present & ~readable).sum()), int(votes.bears[:, i].sum())
        found.append(Figures(name, int(votes.weights[i]), int(present.sum()), unreadable, bears, seen, left_out[i]))
    return found


# --- findings ------------------------------------------------------------------------------------------------------


def _not_judged(votes: Votes) -> Iterator[Finding]:
    pairs = len(votes.comparisons)
    count = {name: int(votes.present[:, i].sum()) for i, name in enumerate(votes.principles)}
    advice = "retrain, or preview the amendment with --sample, and the judge is asked"
    new = [name for name, judged in count.items() if not judged]
    if new:
        sentence = f"{listed(new)} {'is' if len(new) == 1 else 'are'} not judged yet: "
        sentence += f"there is no verdict in these words on {counted(pairs, 'pair')}" if pairs else "there are no pairs"
        yield Finding("not judged", tuple(new), "unknown", sentence, advice, {"judged": 0, "pairs": pairs})
    for name, judged in count.items():
        if 0 < judged < pairs:
            sentence = (
                f"`{name}` is judged on {judged:,} of {counted(pairs, 'pair')}; what is said of it is about those"
            )
            yield Finding("not judged", (name,), "unknown", sentence, advice, {"judged": judged, "pairs": pairs})


def _same_words(votes: Votes) -> Iterator[Finding]:
    by_question: dict[Id, list[int]] = {}
    for i, question in enumerate(votes.questions):
        by_question.setdefault(question, []).append(i)
    for places in by_question.values():
        if len(places) > 1:
            names = [votes.principles[i] for i in places]
            weight = int(votes.weights[places].sum())
            sentence = f"{listed(names)} ask the judge the same words, and count as one of weight {weighed(weight)}"
            advice = "keep one, with the weight that it should have, or reword the others"
            yield Finding("same words", tuple(names), "warning", sentence, advice, {"weight": weight / WEIGHT})


def _orders(figures: Sequence[Figures]) -> Iterator[Finding]:
    for f in figures:
        if not f.by_order:
            continue
        same = f.orders.same
        sentence = (
            f"the answer of `{f.principle}` depends on the order: the two orders name the same answer on {same} of "
            f"{counted(same.of, 'pair')}, "
        )
        advice = "reword it, and try `precept constitution test` with examples of it: this judge may not read it"
        if f.bears:
            sentence += f"and the {counted(f.bears, 'vote')} fall as guesses would"
        else:
            sentence += "and on none of them surely enough to vote"
            advice += ", or these pairs may not show what it is about"
        yield Finding("order", (f.principle,), "warning", sentence, advice, f.orders.as_dict())


def _idle(votes: Votes, figures: Sequence[Figures]) -> Iterator[Finding]:
    """Principles that never vote, and those whose votes never decide: by themselves, or for lack of weight."""
    heaviest = int(votes.weights.max(initial=0))
    for i, f in enumerate(figures):
        if f.judged < ENOUGH_LABELS or f.flips.count or f.by_order:
            continue
        evidence: dict[str, Any] = {"bears_on": f.bears, "labels": f.judged, "flips": 0}
        if not f.bears:
            sentence = f"`{f.principle}` votes on none of {counted(f.judged, 'pair')}: no verdict is sure enough"
            sentence += f", and {f.unreadable:,} cannot be read" if f.unreadable else ""
            advice = "reword it, remove it, or top the pairs up with some that show what it is about"
            yield Finding("never votes", (f.principle,), "warning", sentence, advice, evidence)
            continue
        sentence = f"`{f.principle}` votes on {counted(f.bears, 'pair')}, but without it none of {f.judged:,} labels"
        lighter = f.weight < heaviest
        more = _flips_at(votes, i, heaviest) if lighter else 0
        if more:
            sentence += (
                f" would change: its weight is {weighed(f.weight)}; at {weighed(heaviest)}, the largest, it would "
                f"decide {more:,}"
            )
            advice = "give it more weight, or remove it: every run pays for its verdicts"
            evidence |= {"weight": f.weight / WEIGHT, "heaviest": heaviest / WEIGHT, "flips_at_heaviest": more}
            yield Finding("weight too small", (f.principle,), "notice", sentence, advice, evidence)
        else:
            sentence += " would change" + (f", not even at weight {weighed(heaviest)}" if lighter else "")
            sentence += ": others decide whatever it says"
            advice = "remove it, unless it is there for what these pairs do not show"
            yield Finding("never decides", (f.principle,), "notice", sentence, advice, evidence)


def _flips_at(votes: Votes, principle: int, weight: int) -> int:
    """Labels that leaving the principle out would flip, if it had that weight."""
    weights = votes.weights.copy()
    weights[principle] = weight
    rest = labels(without(votes, sums(votes), principle), votes.rule)[1]
    changed = sums(votes, votes.panel.but(weights=weights))
    return int((labels(changed, votes.rule)[1] != rest).sum())


def _too_little(figures: Sequence[Figures]) -> Iterator[Finding]:
    few = {f.principle: f.judged for f in figures if f.judged < ENOUGH_LABELS}
    if few:
        sentence = f"not enough evidence ({max(few.values()):,}) about {listed(list(few))}"
        advice = f"have at least {ENOUGH_LABELS} pairs judged"
        yield Finding("not enough evidence", tuple(few), "unknown", sentence, advice, few)
    for f in figures:
        if f.principle in few or f.orders.read or f.orders.enough:
            continue
        same, stands = f.orders.same, f.orders.stands.of if f.orders.stands else 0
        sentence = (
            f"not enough evidence ({stands:,}) to tell whether the answer of `{f.principle}` depends on the order; the "
            f"two orders name the same answer on {same} of {counted(same.of, 'pair')}"
        )
        advice = "try `precept constitution test`; more votes on pairs that share an answer would tell, too"
        yield Finding("not enough evidence", (f.principle,), "unknown", sentence, advice, f.orders.as_dict())
