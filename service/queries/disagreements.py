"""Pairs on which people and the judge differ, or two people do: for whoever mends the wording of a principle.

A person who skipped, or accepted neither answer, preferred none, and neither did a judge whose label cannot be read.
The pairs that were answered last come first. Only answered pairs are looked at, and of those no more than the page
needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from constitution.errors import UserError
from constitution.records import Id, Label, SpotAnswer, SpotCheck
from pipeline.metrics.agreement import ai_answer
from service.queries import judged
from service.queries.judged import Judged
from service.queries.labels import rows, votes_on
from service.queries.page import Page
from service.queries.pairs import PairRow, with_texts
from storage.database import chunks
from storage.store import Store

SLICE = 200  # answered pairs whose labels are computed at once


@dataclass(frozen=True)
class Said:
    """What a person answered. `differs`: from the judge."""

    reviewer: str
    at: str
    answer: SpotAnswer
    reason: str
    sampled_by: str
    differs: bool


@dataclass(frozen=True)
class Disagreement:
    """`answers`: of everyone who answered, the oldest first. `judge`: what its label says, in the people's words; None
    where it cannot be read."""

    pair: PairRow
    judge: str | None
    answers: tuple[Said, ...]

    @property
    def deciding(self) -> tuple[str, ...]:
        """The principles that made the judge say so, those that weigh most first; of a tie, all that vote on it."""
        votes, side = self.pair.label.votes, self.pair.label.preferred
        return tuple(v.principle for v in votes if side in (None, v.side))

    def as_dict(self) -> dict[str, Any]:
        said = {"judge": self.judge, "deciding": list(self.deciding), "answers": [asdict(a) for a in self.answers]}
        return {**self.pair.as_dict(), **said}


def disagreements(
    store: Store,
    run: str = "",
    who: str | None = None,
    principle: str | None = None,
    most: int = 50,
    after: str | None = None,
) -> Page[Disagreement]:
    """`who`: where this person differs, from the judge or from another. `principle`: where it is among the deciding.

    Raises UserError for a principle that the run's constitution does not have.
    """
    about = judged.newest(store, run)
    if principle is not None and principle not in about.constitution.weights():
        raise UserError(f"the run's constitution has no principle {principle!r}; `precept constitution show` lists all")
    by_pair: dict[Id, list[SpotCheck]] = {}
    for check in sorted(store.spot_checks(run=about.run.id, stages=about.stages), key=lambda c: c.event):
        by_pair.setdefault(check.comparison, []).append(check)
    # Event ids sort by time. A page ends at the last answer about its last pair.
    newest = sorted(by_pair, key=lambda id: by_pair[id][-1].event, reverse=True)
    waiting = [id for id in newest if after is None or by_pair[id][-1].event < after]
    found: list[tuple[Id, Label]] = []
    for some in chunks(waiting, SLICE):
        labels = about.labels(some)
        decisive = None if principle is None else _decided_by(about, principle, some, labels)
        found += [
            (id, labels[id])
            for id in some
            if _differ(by_pair[id], labels[id], who) and (decisive is None or id in decisive)
        ]
        if len(found) > most:
            break
    shown = found[:most]
    following = by_pair[shown[-1][0]][-1].event if len(found) > most else None
    return Page(tuple(_told(about, shown, by_pair)), following)


def _differ(checks: Sequence[SpotCheck], label: Label, who: str | None) -> bool:
    """Whether somebody (`who`, where one is named) differs from the judge or from another person."""
    said = [c for c in checks if c.share is not None]
    judge = ai_answer(label)
    return any(
        judge not in (None, c.answer) or any(other.answer != c.answer for other in said)
        for c in said
        if who in (None, c.reviewer)
    )


def _decided_by(about: Judged, principle: str, some: Sequence[Id], labels: Mapping[Id, Label]) -> set[Id]:
    found = set()
    for id, votes in votes_on(about, some).items():
        first = labels[id].preferred_first
        sides = ("first", "second") if first is None else ("first",) if first else ("second",)
        if any(v.principle == principle and v.side in sides for v in votes):
            found.add(id)
    return found


def _told(
    about: Judged, shown: Sequence[tuple[Id, Label]], by_pair: Mapping[Id, Sequence[SpotCheck]]
) -> list[Disagreement]:
    stages = _stages(about, [id for id, _ in shown])
    pairs = with_texts(about, rows(about, [(stages[id], id) for id, _ in shown]))
    told = []
    for (id, label), pair in zip(shown, pairs, strict=True):
        judge = ai_answer(label)
        answers = tuple(_said(check, judge) for check in by_pair[id])
        told.append(Disagreement(pair, judge, answers))
    return told


def _said(check: SpotCheck, judge: str | None) -> Said:
    differs = check.share is not None and judge not in (None, check.answer)
    return Said(check.reviewer, check.at, check.answer, check.reason, check.sampled_by, differs)


def _stages(about: Judged, comparisons: Sequence[Id]) -> dict[Id, str]:
    """The stage of the run that each pair belongs to."""
    stages = {}
    for id in comparisons:
        here = [stage for run, stage in about.store.appearances(id) if run == about.run.id and stage in about.stages]
        stages[id] = here[0]
    return stages
