"""Two constitutions over the same verdicts: where their labels disagree, and which principles carry it.

Labels are a query, so neither has to be in force, or to be trained on, and no model is asked. Where a question of one
has no verdict yet, a label that it could turn is open: counted as such, and what asking would take is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.difference import diff
from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import PROBABILITY, Id, Label, LabelRule, Ruling, Voice
from pipeline import label
from pipeline.judges.by_principle import is_free
from pipeline.judges.judge import Judge
from pipeline.metrics import attribution, intervals, voting
from pipeline.metrics import disagreement as disagreeing
from pipeline.metrics.disagreement import Carried, Clause, Disagreement, outcome
from pipeline.metrics.intervals import Interval
from pipeline.metrics.words import percent
from service.queries import pool, pricing, revisions, rulings
from service.queries.drawn import is_sampled
from service.queries.estimate import Lengths, measured
from service.wiring import Wiring
from storage.labels import Voices
from storage.store import Store

SHOWN = 5  # examples
ANSWERS = ("first", "second")


@dataclass(frozen=True)
class Side:
    """One of the two. `missing`: verdicts that the pool lacks, by principle; `open`: labels that they could turn."""

    name: str
    constitution: Constitution
    missing: Mapping[str, int]
    open: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "constitution": self.constitution.name, "version": self.constitution.version,
            "principles": len(self.constitution), "missing": dict(self.missing), "open": self.open,
        }  # fmt: skip


@dataclass(frozen=True)
class Price:
    """What asking for the verdicts that are missing would take; `seconds` at the rates measured here, or None."""

    verdicts: int
    tokens: int
    seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        return {"verdicts": self.verdicts, "tokens": self.tokens, "seconds": self.seconds}


@dataclass(frozen=True)
class Example:
    """A pair on which the two disagree. `for_a`: A's principles that speak for A's label, the heaviest first."""

    comparison: Id
    prompt: str
    first: str
    second: str
    a: str
    b: str
    p_a: float
    p_b: float
    for_a: tuple[str, ...]
    for_b: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "comparison": self.comparison.hex(), "prompt": self.prompt, "first": self.first, "second": self.second,
            "a": {"label": self.a, "p": self.p_a, "principles": list(self.for_a)},
            "b": {"label": self.b, "p": self.p_b, "principles": list(self.for_b)},
        }  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """`table`: labels by outcome under A and under B, of those that are sure under both; `open`: the others.

    `agreement`: over the labels that both decide, how often they name the same answer, with a 95% interval. Labels are
    open because they can still differ, so those that are sure say nothing of the rest: then the mean is not known
    (NaN), and the interval holds whichever way the open ones go. `principles`: their part in the `differing` labels,
    which can be read under both.
    """

    a: Side
    b: Side
    pool: pool.Pool
    table: Mapping[tuple[str, str], int]
    open: int
    agreement: Interval
    price: Price
    differing: int
    principles: Sequence[Carried]
    examples: Sequence[Example]
    sampled: bool = False  # one principle is drawn for each label, and the counts are as if all had been asked

    @property
    def sure(self) -> int:
        return sum(self.table.values())

    @property
    def disagreements(self) -> int:
        return sum(count for (a, b), count in self.table.items() if a != b)

    @property
    def decided(self) -> int:
        """Labels that name an answer under both."""
        return sum(self.table[a, b] for a in ANSWERS for b in ANSWERS)

    def agreement_in_words(self) -> str:
        agreed = self.agreement
        if self.open:
            return f"not known: {percent(agreed.low)} to {percent(agreed.high)}, whichever way the open labels go"
        if not self.decided:
            return "no label names an answer under both"
        return (
            f"of {self.decided:,} labels that name an answer under both, {percent(agreed.mean)} name the same "
            f"(95% interval {percent(agreed.low)} to {percent(agreed.high)})"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "a": self.a.as_dict(),
            "b": self.b.as_dict(),
            "run": self.pool.run.id.hex() if self.pool.run else None,
            "sampled_principles": self.sampled,
            "labels": {
                "total": self.sure + self.open, "sure": self.sure, "open": self.open, "decided": self.decided,
                "disagreements": self.disagreements,
            },
            "table": {a: {b: self.table[a, b] for b in attribution.OUTCOMES} for a in attribution.OUTCOMES},
            "agreement": {name: x if x == x else None for name, x in self.agreement.as_dict().items()},  # no NaN
            "price": self.price.as_dict(),
            "principles": [
                {
                    "principle": c.clause.principle, "standing": c.clause.standing, "ids": list(c.clause.ids),
                    "weights": [None if w is None else w / 1000 for w in c.clause.weights],
                    "tiers": [None if v is None else v.tier for v in c.clause.voices],
                    "hard": [None if v is None else v.hard for v in c.clause.voices],
                    "for_a": c.for_a, "for_b": c.for_b, "moved": c.moved, "alone": c.alone,
                }
                for c in self.principles
            ],
            "examples": [example.as_dict() for example in self.examples],
        }  # fmt: skip


def compare(wiring: Wiring, a: str, b: str, run: str = "") -> Compared:
    """Compare two constitutions, each a file or a revision, over the pool of a run. Loads and asks no model.

    Raises UserError for a name that is neither, an unknown run, and where there are no labels to compare.
    """
    store, judge = wiring.store, wiring.asked_judge(wiring.settings.judge)
    both = revisions.read(a, store), revisions.read(b, store)
    found = pool.find(store, run)
    if not found.comparisons:
        raise UserError(
            "there are no verdicts to compare them over yet: `precept improve` or `precept judge pairs` asks"
        )
    questions = [pool.questions(judge, constitution) for constitution in both]
    lacking = _lacking(store, found.comparisons, {q for asked in questions for q in asked.values()})
    ruling = [rulings.under(store, found.run, judge, constitution) for constitution in both]
    rule = ruling[0].rule or wiring.settings.rule()
    voices = [label.voices(c, judge, r) for c, r in zip(both, ruling, strict=True)]
    labels, unsure = _labels(store, voices, rule, found.comparisons, lacking)
    outcomes = {
        id: (outcome(labels[0][id]), outcome(labels[1][id]))
        for id in found.comparisons
        if not any(id in some for some in unsure)
    }
    differing = [id for id, (x, y) in outcomes.items() if x != y and "unreadable" not in (x, y)]
    said = [{p.id: _voice(p, judge, r) for p in constitution} for constitution, r in zip(both, ruling, strict=True)]
    clauses = disagreeing.clauses(diff(*both), questions[0], questions[1], (said[0], said[1]))
    disagreement = _disagreement(store, clauses, rule, differing)
    decided = {id: x == y for id, (x, y) in outcomes.items() if x in ANSWERS and y in ANSWERS}
    prompts = {id: c.prompt for id, c in zip(found.comparisons, store.comparisons(found.comparisons), strict=True)}
    rest = [id for id in found.comparisons if id not in outcomes]
    sides = [
        Side(name, constitution, {p: lacking[q] for p, q in asked.items() if lacking[q]}, len(some))
        for name, constitution, asked, some in zip((a, b), both, questions, unsure, strict=True)
    ]
    unasked = {q: p for c, asked in zip(both, questions, strict=True) for p in c if lacking[q := asked[p.id]]}
    return Compared(
        a=sides[0],
        b=sides[1],
        pool=found,
        table=disagreeing.table(list(outcomes.values())),
        open=len(rest),
        agreement=_agreement(decided, rest, prompts),
        price=_price(wiring, found, unasked, sum(lacking[q] for q, p in unasked.items() if not is_free(p))),
        differing=len(differing),
        principles=disagreement.carried(),
        examples=_examples(store, disagreement, outcomes, prompts),
        sampled=is_sampled(found.run, wiring.settings.compare.principles),
    )


def _lacking(store: Store, comparisons: Sequence[Id], questions: set[Id]) -> dict[Id, int]:
    stored = store.count_verdicts(comparisons, sorted(questions))
    return {question: len(comparisons) - stored[question] for question in questions}


def _voice(principle: Principle, judge: Judge, ruling: Ruling) -> Voice:
    """A principle that the judge's trial left out says nothing."""
    voice = label.voice(principle, judge.question(principle), ruling)
    return replace(voice, weight=0) if principle.id in ruling.left_out else voice


def _labels(
    store: Store,
    voices: Sequence[Voices],
    rule: LabelRule,
    comparisons: Sequence[Id],
    lacking: Mapping[Id, int],
) -> tuple[list[dict[Id, Label]], list[set[Id]]]:
    """Under each, the labels, and which of them depend on verdicts that are not stored yet."""
    labels, unsure = [], []
    for of in voices:
        labels.append({found.comparison: found for found in store.labels(comparisons, of, rule)})
        waiting = any(lacking[question] for question in of)
        prospects = store.outlook(comparisons, of, of, rule).open if waiting else []
        unsure.append({prospect.comparison for prospect in prospects})
    return labels, unsure


def _agreement(decided: Mapping[Id, bool], rest: Sequence[Id], prompts: Mapping[Id, Id]) -> Interval:
    if not rest:
        return intervals.share_by_prompt(decided, prompts)
    worst, best = (
        intervals.share_by_prompt({**decided, **dict.fromkeys(rest, same)}, prompts) for same in (False, True)
    )
    return Interval(float("nan"), worst.low, best.high)


def _disagreement(store: Store, clauses: Sequence[Clause], rule: LabelRule, differing: Sequence[Id]) -> Disagreement:
    sides = (each for clause in clauses for each in zip(clause.questions, clause.voices, strict=True))
    asked = {question: voice for question, voice in sides if question is not None and voice is not None}
    evidence = store.evidence(differing, list(asked))
    names = {question.hex(): question for question in asked}
    votes = voting.votes(evidence, names, {question.hex(): voice for question, voice in asked.items()}, rule)
    return Disagreement(votes, clauses)


def _price(wiring: Wiring, found: pool.Pool, unasked: Mapping[Id, Principle], verdicts: int) -> Price:
    """Of asking a model each missing question, in both orders, wherever the pool has no verdict on it."""
    if not verdicts:
        return Price(0, 0, 0.0)
    store, earlier = wiring.store, measured(wiring.store)
    prompts = store.prompts(ids=store.stage_members(found.run.id, "prompts")) if found.run else []
    asked = Constitution("missing", tuple(unasked.values()))
    each = Lengths(wiring.settings, asked, prompts, store, earlier).verdict
    rates = pricing.Rates.of(store, earlier)
    return Price(verdicts, round(pricing.ORDERS * verdicts * each), rates.verdict * verdicts if rates else None)


def _examples(
    store: Store, found: Disagreement, outcomes: Mapping[Id, tuple[str, str]], prompts: Mapping[Id, Id]
) -> list[Example]:
    """The clearest: between the two answers before those to or from a tie, the furthest apart first; one a prompt."""
    ids = found.votes.comparisons
    rows = sorted(
        range(len(ids)),
        key=lambda row: (
            not all(said in ANSWERS for said in outcomes[ids[row]]),
            -abs(int(found.p_b[row] - found.p_a[row])),
            ids[row],
        ),
    )
    clearest: dict[Id, int] = {}
    for row in rows:
        clearest.setdefault(prompts[ids[row]], row)
    rows = list(clearest.values())[:SHOWN]
    return [
        Example(
            ids[row],
            "\n".join(m.content for m in pair.messages if m.role == "user"),
            pair.first,
            pair.second,
            *outcomes[ids[row]],
            int(found.p_a[row]) / PROBABILITY,
            int(found.p_b[row]) / PROBABILITY,
            *found.speakers(row),
        )
        for row, pair in zip(rows, store.pairs([ids[row] for row in rows]), strict=True)
    ]
