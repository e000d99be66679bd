"""Pairs whose better answer is known, as a judge is asked about them, and what its verdicts say of each.

They are a constitution's own examples and the pairs of files. One that names a principle is asked under that alone. One
that names none is asked under every principle, and its answer is that of a label by the mean of both orders: tiers and
hard constraints decide before weights do (`constitution.tally`).
Pure: nothing here asks or stores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np

from constitution.principles import Constitution, Principle
from constitution.records import (
    PROBABILITY,
    Comparison,
    Id,
    LabelRule,
    Message,
    Messages,
    Verdict,
    Voice,
    dialogue_id,
    make_id,
    text_digest,
    together,
)
from constitution.tally import HALF, HARD, Panel, Sums, speaks
from pipeline.metrics.trial import Tried
from pipeline.sources.known_pairs import KnownPair

DEFAULT = LabelRule()
EXAMPLES = "examples"  # the source of a constitution's own
_MARKS = re.compile(r"^\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s)|\*\*|__|```", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Known:
    """A pair with its better answer. `principle`: an id of the constitution, or empty."""

    messages: Messages
    better: str
    worse: str
    principle: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""

    @property
    def comparison(self) -> Comparison:
        return Comparison.of(dialogue_id(self.messages), text_digest(self.better), text_digest(self.worse))

    @property
    def better_first(self) -> bool:
        """Whether the comparison's first answer is the better (digests decide that)."""
        return text_digest(self.better) < text_digest(self.worse)

    @property
    def prompt(self) -> Id:
        """What its dialogue is but for case and blanks: pairs on one are one prompt."""
        return dialogue_id(tuple(Message(m.role, " ".join(m.content.casefold().split())) for m in self.messages))

    def instead(self, worse: str) -> Known:
        """The same with another worse answer."""
        return Known(self.messages, self.better, worse, self.principle, self.tags, self.source)


@dataclass(frozen=True)
class Chosen:
    """The pairs of a trial. `strange`: by principle's id, how many name one that the constitution has not; `unasked`:
    by principle (empty: none) and source, how many are not asked, because there are more than are wanted of their
    principle; `opposed`: how many pairs are left out because they are given both ways round."""

    pairs: tuple[Known, ...]
    strange: Mapping[str, int]
    unasked: Mapping[tuple[str, str], int]
    opposed: int = 0

    @property
    def beyond(self) -> dict[str, int]:
        """How many are not asked, by principle."""
        found: dict[str, int] = {}
        for (principle, _), count in self.unasked.items():
            found[principle] = found.get(principle, 0) + count
        return found


def of_examples(constitution: Constitution) -> list[Known]:
    return [
        Known(e.prompt, e.better, e.worse, p.id, source=EXAMPLES)
        for p in constitution
        for e in p.examples
        if e.better != e.worse
    ]


def choose(
    constitution: Constitution,
    pairs: Iterable[KnownPair],
    most: int,
    exact: Container[str] = (),
    named: Iterable[KnownPair] = (),
) -> Chosen:
    """The constitution's examples and the pairs, each once; of each principle, and of pairs without one, at most
    `most`: first those of `named`, which somebody asks about by name, then the examples, then whichever have the
    smallest hash, so that a longer file only adds. They come in turn, one of each principle, so that the first few are
    of all of them. One that is there both ways round is not. Nothing of the principles in `exact`: code decides those,
    and being right on them says nothing of a model."""
    ids = {p.id for p in constitution}
    strange: dict[str, int] = {}
    by_principle: dict[str, dict[Id, Known]] = {id: {} for id in (*ids, "")}
    opposed: set[tuple[str, Id]] = set()
    asked_for = [_as_known(pair) for pair in named]
    first_of_all = {(one.principle, one.comparison.id) for one in asked_for}
    for one in (*of_examples(constitution), *map(_as_known, pairs), *asked_for):
        if one.principle in exact:
            continue
        if one.principle in by_principle:
            first = by_principle[one.principle].setdefault(one.comparison.id, one)
            if first.better != one.better:
                opposed.add((one.principle, one.comparison.id))
        else:
            strange[one.principle] = strange.get(one.principle, 0) + 1
    for name, pair in opposed:
        del by_principle[name][pair]
    names = [p.id for p in constitution] + [""]

    def place(one: Known) -> tuple[bool, bool, Id]:
        later = (one.principle, one.comparison.id) not in first_of_all
        return later, one.source != EXAMPLES, make_id("trial", pair=one.comparison.id)

    ordered = [sorted(by_principle[n].values(), key=place) for n in names]
    kept = tuple(one for one in chain.from_iterable(zip_longest(*(some[:most] for some in ordered))) if one is not None)
    unasked = Counter((one.principle, one.source) for some in ordered for one in some[most:])
    return Chosen(kept, strange, unasked, len(opposed))


def _as_known(pair: KnownPair) -> Known:
    return Known(pair.messages, pair.better, pair.worse, pair.principle, pair.tags, pair.source)


def halves(pairs: Sequence[Known]) -> tuple[list[Known], list[Known]]:
    """To choose on, and to try on what was chosen: by the hash of the dialogue, so that no prompt is in both."""
    spelt: dict[Id, Id] = {}  # of each prompt, the dialogue that stands for its spellings
    for one in pairs:
        spelt[one.prompt] = min(one.comparison.prompt, spelt.get(one.prompt, one.comparison.prompt))
    there = [make_id("half", prompt=spelt[one.prompt])[0] % 2 == 0 for one in pairs]
    return [p for p, on in zip(pairs, there, strict=True) if on], [
        p for p, on in zip(pairs, there, strict=True) if not on
    ]


def asked_of(pair: Known, constitution: Constitution) -> tuple[Principle, ...]:
    """The principles that a pair is asked under."""
    return (constitution[pair.principle],) if pair.principle else constitution.principles


def wanted(
    pairs: Sequence[Known], constitution: Constitution, question: Callable[[Principle], Id]
) -> dict[Id, set[Id]]:
    """By comparison, the questions to be asked about it."""
    found: dict[Id, set[Id]] = {}
    for pair in pairs:
        found.setdefault(pair.comparison.id, set()).update(question(p) for p in asked_of(pair, constitution))
    return found


def rows(
    pairs: Sequence[Known],
    verdicts: Mapping[tuple[Id, Id], Verdict],
    constitution: Constitution,
    question: Callable[[Principle], Id],
    min_mass: float,
    voices: Mapping[Id, Voice] | None = None,
    rule: LabelRule = DEFAULT,
) -> list[Tried]:
    """What a judge said of each pair. `verdicts`: by comparison and question. A pair without a principle is answered as
    its label would be, by `voices` (by question; plainly as the constitution has them, where nobody knows more) and
    the mean of both orders: a bias for a place is told apart, and is no mistake. `rule`: that of the labels, for its
    tie margin and for how much has to be readable."""
    if voices is None:
        given: dict[Id, list[Voice]] = {}
        for p in constitution:
            given.setdefault(question(p), []).append(Voice(p.weight, p.tier, p.hard))
        voices = {id: together(some) for id, some in given.items()}
    rule = replace(rule, min_mass=min_mass, consistent=False, min_margin=0.0)
    made = []
    for pair in pairs:
        asked = dict.fromkeys(question(p) for p in asked_of(pair, constitution))
        said = {id: v for id in asked if (v := verdicts.get((pair.comparison.id, id))) is not None}
        made.append(_row(pair, next(iter(said.values()), None)) if pair.principle else _whole(pair, said, voices, rule))
    return made


def _row(pair: Known, verdict: Verdict | None) -> Tried:
    if verdict is None:
        return row(pair, None, None)
    one, other = (p / PROBABILITY for [(p, _)] in _shown(pair, [(verdict, 1)]))
    return row(pair, one, other, min(verdict.mass1, verdict.mass2) / PROBABILITY)


def _whole(pair: Known, said: Mapping[Id, Verdict], voices: Mapping[Id, Voice], rule: LabelRule) -> Tried:
    """A pair that was asked under every principle: those that make its label (the hard constraints that speak, or the
    highest tier that decides) are averaged by their weights."""
    if not said:
        return row(pair, None, None)
    verdicts, panel = list(said.values()), Panel.of([voices[id] for id in said])
    s = np.array([[v.p1 + v.p2 - PROBABILITY] for v in verdicts], np.int64)
    least = [min(v.mass1, v.mass2) for v in verdicts]
    clear = np.array([[mass >= round(rule.min_mass * PROBABILITY)] for mass in least], np.bool_)
    seen = clear if clear.any() else np.ones_like(clear)  # what cannot be read is shown all the same, and not counted
    bears = seen & np.array([[not v.p1 == v.p2 == HALF] for v in verdicts], np.bool_)
    counts = panel.clamped(s)
    sums = Sums.of(panel, np.ones_like(clear), clear, bears, counts, rule)
    place = int(sums.resolve(rule)[2][0])
    mass = (min(least) if sums.unreadable(rule)[0] else max(least)) / PROBABILITY
    deciding = bears[:, 0] & (panel.places == place)
    if place == HARD:
        deciding &= speaks(counts[:, 0], rule)
    if not deciding.any():  # all abstain, or hard constraints speak for both
        return row(pair, 0.5, 0.5, mass)
    places = [int(n) for n in np.flatnonzero(deciding)]
    votes = [(_clamped(verdicts[n], int(s[n, 0]), int(counts[n, 0])), int(panel.weights[n])) for n in places]
    total = sum(w for _, w in votes)
    one, other = (sum(w * p for p, w in side) / total / PROBABILITY for side in _shown(pair, votes))
    return row(pair, one, other, mass)


def _clamped(verdict: Verdict, s: int, counts: int) -> Verdict:
    """A verdict whose p1 + p2 - 1 is what it counts as, each order drawn to the middle alike."""
    if s == counts:
        return verdict
    p1, p2 = (HALF + (p - HALF) * counts // s for p in (verdict.p1, verdict.p2))
    return replace(verdict, p1=p1, p2=p2)


def _shown(pair: Known, votes: Sequence[tuple[Verdict, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The probabilities of the better answer, shown as A and shown as B, each with its weight."""
    if pair.better_first:
        return [(v.p1, w) for v, w in votes], [(v.p2, w) for v, w in votes]
    return [(PROBABILITY - v.p2, w) for v, w in votes], [(PROBABILITY - v.p1, w) for v, w in votes]


def row(pair: Known, shown_a: float | None, shown_b: float | None, mass: float = 1.0) -> Tried:
    """A pair with what somebody said of it."""
    return Tried(
        pair=f"{pair.comparison.id.hex()}:{pair.principle}",
        prompt=pair.prompt.hex(),
        shown_a=shown_a,
        shown_b=shown_b,
        principle=pair.principle,
        mass=mass,
        lengths=(len(pair.better), len(pair.worse)),
        marks=(marks(pair.better), marks(pair.worse)),
        tags=pair.tags,
        source=pair.source,
        own=next((tag.removeprefix("own:") for tag in pair.tags if tag in ("own:better", "own:worse")), ""),
    )


def marks(text: str) -> int:
    """How many headings, list items, bold words and code fences a text has."""
    return len(_MARKS.findall(text))
