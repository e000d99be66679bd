"""The pairs of a run with their texts, a page at a time: the conversation, both answers, and the label they have.

For people who look at what the judge said. Who is about to judge a pair is shown it by `service/actions/review.py`,
which says nothing of the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from constitution.errors import UserError
from constitution.records import Id, LabelState, Messages
from service.queries import judged
from service.queries import labels as labelled
from service.queries.judged import Judged
from service.queries.labels import LabelRow
from service.queries.page import Page
from storage.store import Store


@dataclass(frozen=True)
class JudgesReason:
    """What the judge wrote before it answered. `principles`: whose question it was. `shown`: 1 where the pair's first
    answer stood first, 2 where it stood second."""

    principles: tuple[str, ...]
    shown: int
    text: str


@dataclass(frozen=True)
class PairRow:
    """`reasons`: the judge's, where it gives some: for people, and part of nothing that is trained on."""

    label: LabelRow
    dialogue: Messages
    first: str
    second: str
    reasons: tuple[JudgesReason, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        dialogue = [{"role": message.role, "content": message.content} for message in self.dialogue]
        texts = {"dialogue": dialogue, "first": self.first, "second": self.second}
        return {**self.label.as_dict(), **texts, "reasons": [asdict(reason) for reason in self.reasons]}


def pairs(
    store: Store,
    run: str = "",
    *,
    state: LabelState | None = None,
    principle: str | None = None,
    after: str | None = None,
    most: int = 20,
) -> Page[PairRow]:
    """As `labels`, with the texts."""
    about = judged.newest(store, run)
    found, following = labelled.page(about, state=state, principle=principle, after=after, most=most)
    return Page(tuple(with_texts(about, found)), following)


def pair(store: Store, comparison: str, run: str = "") -> PairRow:
    """One pair of a run, by the first digits of its id. Raises UserError where none or several of the run's fit."""
    about = judged.newest(store, run)
    try:
        fitting = store.ids_like("comparison", comparison, 2)
    except ValueError:
        fitting = []
    if len(fitting) != 1:
        problem = "several pairs begin" if fitting else "no pair begins"
        raise UserError(f"{problem} with {comparison!r}; write more of its id, in hex digits")
    stages = [stage for run_id, stage in store.appearances(fitting[0]) if run_id == about.run.id]
    mine = next((stage for stage in stages if stage in about.stages), None)
    if mine is None:
        raise UserError(
            f"the judge of run {about.run.id.hex()[:12]} was not asked about pair {comparison}: name its run"
        )
    return with_texts(about, labelled.rows(about, [(mine, fitting[0])]))[0]


def with_texts(about: Judged, rows: Sequence[LabelRow]) -> list[PairRow]:
    ids = [bytes.fromhex(row.comparison) for row in rows]
    reasons: dict[Id, list[JudgesReason]] = {}
    for reason in about.store.reasons(ids, list(about.principles)):
        told = JudgesReason(about.principles[reason.question], reason.shown, reason.text)
        reasons.setdefault(reason.comparison, []).append(told)
    return [
        PairRow(row, pair.messages, pair.first, pair.second, tuple(reasons.get(id, ())))
        for id, row, pair in zip(ids, rows, about.store.pairs(ids), strict=True)
    ]
