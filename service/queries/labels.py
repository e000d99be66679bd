"""The labels of a run, a page at a time, in the run's order: what the judge made of each pair, and which principles
are for and against it.

A page computes the labels of its own pairs. With a filter it looks at `SCAN` pairs at most, so it may come back short.
Counting all labels is another question (`counts`), because that is the one that has to compute them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from constitution.errors import UserError
from constitution.records import PROBABILITY, WEIGHT, Id, Label, LabelState, Messages
from constitution.tally import STATES
from service.queries import judged
from service.queries.judged import Judged
from service.queries.page import Page
from storage.database import chunks
from storage.store import Store

SCAN = 10_000  # pairs that one page looks at, at most
SLICE = 1_000
CUT = 200  # characters of a prompt

Side = Literal["first", "second"]


@dataclass(frozen=True)
class Vote:
    """What one principle says of a pair. `strength`: from 0 to 1, how sure its verdict is."""

    principle: str
    title: str
    side: Side
    weight: float
    strength: float


@dataclass(frozen=True)
class LabelRow:
    """`p`: probability that the first answer is the better, 0.5 where the label is unreadable. `votes`: of the
    principles that vote on the pair, those that weigh most first."""

    comparison: str
    stage: str
    state: LabelState
    preferred: Side | None
    p: float
    votes: tuple[Vote, ...]
    prompt: str

    @property
    def in_favour(self) -> tuple[str, ...]:
        """The principles for what the label says; for the first answer, where it prefers none."""
        return tuple(v.principle for v in self.votes if v.side == (self.preferred or "first"))

    @property
    def against(self) -> tuple[str, ...]:
        return tuple(v.principle for v in self.votes if v.side != (self.preferred or "first"))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "for": list(self.in_favour), "against": list(self.against)}


def labels(
    store: Store,
    run: str = "",
    *,
    state: LabelState | None = None,
    principle: str | None = None,
    after: str | None = None,
    most: int = 100,
) -> Page[LabelRow]:
    """`state`: only labels in it. `principle`: only pairs on which it votes. Raises UserError for an unknown one."""
    about = judged.newest(store, run)
    rows, following = page(about, state=state, principle=principle, after=after, most=most)
    return Page(tuple(rows), following)


def counts(store: Store, run: str = "") -> dict[LabelState, int]:
    """How many labels of the run are in each state. It computes all of them."""
    about = judged.newest(store, run)
    found: dict[LabelState, int] = dict.fromkeys(STATES, 0)
    for some in chunks(about.comparisons, 25 * SLICE):
        for label in about.labels(some).values():
            found[label.state] += 1
    return found


def page(
    about: Judged,
    *,
    state: LabelState | None = None,
    principle: str | None = None,
    after: str | None = None,
    most: int = 100,
) -> tuple[list[LabelRow], str | None]:
    """The rows of a page, and where the next one begins."""
    if state is not None and state not in STATES:
        raise UserError(f"there is no state {state!r} of a label; choose one of {', '.join(STATES)}")
    if principle is not None and principle not in about.constitution.weights():
        raise UserError(f"the run's constitution has no principle {principle!r}; `precept constitution show` lists all")
    wanted = None if principle is None else {q for q, names in about.principles.items() if principle in names}
    found: list[tuple[str, Id]] = []
    scanned, place = 0, after
    size = most + 1 if state is None and wanted is None else SLICE
    for stage, some in _walk(about, after, size):
        fitting = _fitting(about, some, state, wanted)
        for id in some:
            if id in fitting:
                if len(found) == most:
                    return rows(about, found), place
                found.append((stage, id))
            place = _cursor(about, stage, id)
        scanned += len(some)
        if scanned >= SCAN:
            return rows(about, found), place
    return rows(about, found), None


def rows(about: Judged, found: Sequence[tuple[str, Id]]) -> list[LabelRow]:
    """(stage, comparison) as rows, in their order."""
    ids = [id for _, id in found]
    said, votes = about.labels(ids), votes_on(about, ids)
    prompts = {pair.comparison.id: pair.messages for pair in about.store.pairs(ids)}
    return [row(said[id], stage, votes[id], prompts[id]) for stage, id in found]


def row(label: Label, stage: str, votes: tuple[Vote, ...], messages: Messages) -> LabelRow:
    first = label.preferred_first
    preferred: Side | None = None if first is None else "first" if first else "second"
    p = label.p / PROBABILITY
    return LabelRow(label.comparison.hex(), stage, label.state, preferred, p, votes, _prompt(messages))


def votes_on(about: Judged, comparisons: Sequence[Id]) -> dict[Id, tuple[Vote, ...]]:
    """The principles that vote on each pair: hard constraints first, then by tier, then those that weigh most."""
    votes: Mapping[Id, list[tuple[tuple[bool, int], Vote]]] = {id: [] for id in comparisons}
    weights, titles = about.constitution.weights(), {p.id: p.title for p in about.constitution}
    for c in about.contributions(comparisons):
        if c.chooses:
            side: Side = "first" if c.s > 0 else "second"
            votes[c.comparison].extend(
                ((not c.hard, -c.tier), Vote(name, titles[name], side, weights[name] / WEIGHT, abs(c.s) / PROBABILITY))
                for name in about.principles[c.question]
            )

    def rank(said: tuple[tuple[bool, int], Vote]) -> tuple[Any, ...]:
        place, vote = said
        return (*place, -vote.weight * vote.strength, vote.principle)

    return {id: tuple(vote for _, vote in sorted(some, key=rank)) for id, some in votes.items()}


def _fitting(about: Judged, some: Sequence[Id], state: LabelState | None, questions: set[Id] | None) -> set[Id]:
    fitting = set(some)
    if state is not None:
        fitting &= {id for id, label in about.labels(some).items() if label.state == state}
    if questions is not None and fitting:
        voices = {q: about.voices[q] for q in questions}
        found = about.store.contributions(sorted(fitting), voices, about.rule) if voices else ()
        fitting &= {c.comparison for c in found if c.chooses}
    return fitting


def _walk(about: Judged, after: str | None, size: int) -> Iterator[tuple[str, list[Id]]]:
    """The run's pairs in its order, in slices, each with its stage; from behind a cursor on."""
    number, last = _place(about, after)
    for stage in about.stages[number:]:
        while some := about.store.stage_members(about.run.id, stage, after=last, most=size):
            yield stage, some
            last = some[-1]
        last = None


def _cursor(about: Judged, stage: str, id: Id) -> str:
    return f"{about.stages.index(stage)}-{id.hex()}"


def _place(about: Judged, after: str | None) -> tuple[int, Id | None]:
    if after is None:
        return 0, None
    number, _, digits = after.partition("-")
    try:
        stage, id = about.stages[int(number)], bytes.fromhex(digits)
        about.store.stage_members(about.run.id, stage, after=id, most=1)
    except (ValueError, IndexError, KeyError):
        raise UserError(f"no page of this run ends at {after!r}; begin at the first page, without it") from None
    return int(number), id


def _prompt(messages: Messages) -> str:
    text = messages[-1].content if messages else ""
    return text if len(text) <= CUT else text[: CUT - 1] + "…"
