"""Labels: a query over verdicts, never a stored state. `constitution.records` says what `LabelRule` and `Voice` mean.

All arithmetic is on integers (probabilities x 1e9, weights x 1e3), because the order of a float sum would change the
last bit of half of the labels. What a verdict says under the rule is one expression that means the same on SQLite and
Postgres; columns of it, as `storage.evidence` reads them, become labels in `constitution.tally`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, ColumnElement, Text, and_, case, cast, func, literal, or_, select

from constitution.records import PROBABILITY, Id, Label, LabelRule, Voice
from constitution.tally import HALF, MAX_WEIGHT, STATES, Panel, Sums, units
from storage import tables
from storage.database import chunks, patient
from storage.evidence import LIMIT, Gathering, Integers, digits

# A vote, as a number that is not negative: s + 1e9 where the verdict votes on the pair, or else one of these.
MUTE = 3 * PROBABILITY  # it is readable and abstains
DARK = 4 * PROBABILITY  # it is unreadable
NONE = 5 * PROBABILITY  # there is no verdict

Weights = Mapping[Id, Voice | int]  # by question; a number is the voice of that weight x 1e3, and nothing else
Voices = Mapping[Id, Voice]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One verdict's part in a label. `s`: p1 + p2 - 1 in units of 1e-9, as its voice lets it count, positive for the
    comparison's first answer; one of 0 that bears (two orders that cancel out, where the rule allows it) is for neither
    answer. `even`: exactly one half in both orders, which abstains under every rule."""

    comparison: Id
    question: Id
    weight: int
    s: int
    readable: bool
    bears: bool
    tier: int = 0
    hard: bool = False
    even: bool = False

    @property
    def chooses(self) -> bool:
        """Whether it votes for one of the two answers."""
        return self.readable and self.bears and self.s != 0


class Labels(Gathering):
    def labels(
        self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule, *, whole: bool = False
    ) -> list[Label]:
        """The label of each comparison (once, in order) under the voices and the rule.

        A question without a verdict counts as unreadable; with `whole` its comparison does, however much the others
        weigh: what a judge was asked in part (too long for it under one principle) is not labelled. p is rounded down
        to 1e-9, and ties are told from that p; the p of an unreadable label is one half. Raises KeyError for a
        comparison that is not stored.
        """
        voices = voiced(weights)
        panel = Panel.of(list(voices.values()))
        labels: dict[Id, Label] = {}

        def work(some: Sequence[Id]) -> tuple[Integers, Integers, NDArray[np.bool_]]:
            sums = tally(self._votes(some, voices, rule), voices, panel, rule)
            return *sums.label(rule, whole), sums.conflict

        for some, (states, p, conflict) in self._in_slices(comparisons, work):
            columns = zip(some, states.tolist(), p.tolist(), conflict.tolist(), strict=True)
            for id, state, probability, against in columns:
                name = STATES[state]
                labels[id] = Label(id, name, probability, against and name == "tied")
        return [labels[id] for id in dict.fromkeys(comparisons)]

    def _votes(self, some: Sequence[Id], voices: Voices, rule: LabelRule) -> dict[Id, Integers]:
        """By question, the vote on each comparison of a slice. Raises KeyError for one that is not stored."""
        votes = {question: np.full(len(some), NONE, np.int64) for question in voices}
        asked = np.zeros(len(some), np.bool_)
        for under, questions in by_rule(voices, rule).items():
            readable = _readable(under)
            vote = case(
                (and_(readable, _bears(under)), digits(_s() + PROBABILITY)), (readable, _code(MUTE)), else_=_code(DARK)
            )
            for answers in self._answers(some, questions, vote):
                votes[answers.question][answers.places] = answers.numbers[0]
                asked[answers.places] = True
        self._require_stored([some[place] for place in np.flatnonzero(~asked).tolist()])
        return votes

    def contributions(self, comparisons: Sequence[Id], weights: Weights, rule: LabelRule) -> Iterator[Contribution]:
        """What each verdict adds to its comparison's label: for attribution and reports."""
        voices = voiced(weights)
        for some in chunks(list(dict.fromkeys(comparisons))):
            found = [
                each for part in by_rule(voices, rule).items() for each in self._contributions(some, voices, *part)
            ]
            yield from sorted(found, key=lambda c: (c.comparison, c.question))

    @patient
    def _contributions(
        self, comparisons: Sequence[Id], voices: Voices, rule: LabelRule, questions: Sequence[Id]
    ) -> list[Contribution]:
        verdict = tables.verdict.c
        readable = _readable(rule)
        numbers = (_s(), case((readable, 1), else_=0), case((and_(readable, _bears(rule)), 1), else_=0))
        half = case((and_(verdict.p1 == HALF, verdict.p2 == HALF), 1), else_=0)
        query = select(verdict.comparison, verdict.question, *numbers, half).where(
            verdict.comparison.in_(comparisons), verdict.question.in_(questions)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        found = []
        for comparison, question, s, *flags in rows:
            voice = voices[question]
            most = PROBABILITY if voice.clamp is None else voice.clamp
            counted = max(-most, min(most, s))
            can, does, even = (bool(flag) for flag in flags)
            found.append(
                Contribution(comparison, question, voice.weight, counted, can, does, voice.tier, voice.hard, even)
            )
        return found


def voiced(weights: Weights) -> dict[Id, Voice]:
    """The voices, numbers among them as such. Raises ValueError where they cannot make labels."""
    voices = {q: Voice(voice) if isinstance(voice, int) else voice for q, voice in weights.items()}
    given = [voice.weight for voice in voices.values()]
    if not given or min(given) < 0 or sum(given) > MAX_WEIGHT:
        raise ValueError("labels need at least one question, and weights from 0 to 4 million in all")
    return voices


def by_rule(voices: Voices, rule: LabelRule) -> dict[LabelRule, list[Id]]:
    """The questions under each rule that their verdicts are read by: the voice's own, or the labels'."""
    found: dict[LabelRule, list[Id]] = {}
    for question, voice in voices.items():
        found.setdefault(voice.rule or rule, []).append(question)
    return found


def tally(votes: Mapping[Id, Integers], voices: Voices, panel: Panel, rule: LabelRule) -> Sums:
    """`votes`: by question, the vote on each comparison of the slice. `panel`: of the voices, in their order."""
    said = np.stack([votes[question] for question in voices])
    return Sums.of(panel, said < NONE, said < DARK, said < MUTE, panel.clamped(said - PROBABILITY), rule)


# --- the rule as SQL, about one row of `verdict` -------------------------------------------------------------------


def _code(vote: int) -> ColumnElement[str]:
    """A vote without a number, written as `digits` would: most are of these, and numbers take long to write."""
    return literal(str(LIMIT + vote), Text)


def _number(value: int) -> ColumnElement[int]:
    return literal(value, BigInteger)


def _s() -> ColumnElement[int]:
    verdict = tables.verdict.c
    return cast(verdict.p1, BigInteger) + verdict.p2 - PROBABILITY


def _readable(rule: LabelRule) -> ColumnElement[bool]:
    verdict, least = tables.verdict.c, _number(units(rule.min_mass))
    return and_(verdict.mass1 >= least, verdict.mass2 >= least)


def _bears(rule: LabelRule) -> ColumnElement[bool]:
    verdict = tables.verdict.c
    far = func.abs(_s()) >= _number(units(rule.min_margin))
    if not rule.consistent:
        return and_(far, or_(verdict.p1 != HALF, verdict.p2 != HALF))  # exactly even in both orders: it abstains
    same = or_(and_(verdict.p1 > HALF, verdict.p2 > HALF), and_(verdict.p1 < HALF, verdict.p2 < HALF))
    return and_(far, same)
