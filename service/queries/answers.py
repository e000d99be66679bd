"""All answers to the held-out prompts of a run, before and after, a page at a time: which is better, and by whom.

Read from the store alone: no model is loaded. The evaluator's verdicts are combined as the run's own figures did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import PROBABILITY, Generation, Id, Label, LabelRule, Messages, Voice
from pipeline import compare, label
from pipeline.metrics import style
from service.queries import rulings
from service.queries.judged import rule_of
from service.queries.page import Page
from storage.runs import Run
from storage.store import Store

STAGE = "evaluation"
OUTCOMES = ("better", "worse", "tied", "same", "unreadable")
SLICE, LOOKED_AT = 100, 3000  # prompts read at once, and looked through for one page
DIGITS = 9  # of a place among the prompts


@dataclass(frozen=True)
class Answers:
    """`outcome`: of the answer after, against the one before; `same` where both are one text. `p`: how likely the
    answer after is the better one, by the evaluator's label. `by`, `against`: principles that voted for the better
    answer, and the others, the heaviest first. `flags`: of style (`pipeline.metrics.style`), by side."""

    prompt: Id
    messages: Messages
    before: str
    after: str
    outcome: str
    p: float | None
    by: tuple[str, ...]
    against: tuple[str, ...]
    flags: Mapping[str, tuple[str, ...]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt.hex(), "messages": [[m.role, m.content] for m in self.messages],
            "before": self.before, "after": self.after, "outcome": self.outcome, "p": self.p, "by": list(self.by),
            "against": list(self.against), "flags": {side: list(names) for side, names in self.flags.items()},
        }  # fmt: skip


def heldout(
    store: Store,
    name: str,
    *,
    outcome: str = "",
    principle: str = "",
    flag: str = "",
    longer: bool | None = None,
    search: str = "",
    after: str = "",
    most: int = 20,
) -> Page[Answers]:
    """In the order in which the run asked. `principle`: where it voted for the better answer; `flag`: where an answer
    has this mark of style; `longer`: where the answer after is longer, or is not; `search`: a word of the prompt or an
    answer; `after`: where the page before ended. Raises UserError for a run or an outcome that is none."""
    if outcome and outcome not in OUTCOMES:
        raise UserError(f"there is no outcome {outcome!r}; there are {', '.join(OUTCOMES)}")
    run = store.run(name)
    reading = _Reading(store, run)
    ids = store.stage_ids(run.id, f"{STAGE}.after")
    if not ids:
        raise UserError(f"run {run.id.hex()[:12]} has not measured a model on held-out prompts")
    begin = _place(after)
    found: list[Answers] = []
    place = begin
    while place < len(ids) and place - begin < LOOKED_AT:
        for one in reading.of(ids[place : place + SLICE]):
            place += 1
            if one is not None and _fits(one, outcome, principle, flag, longer, search.casefold()):
                found.append(one)
                if len(found) == most:
                    return Page(tuple(found), str(place) if place < len(ids) else None)
    return Page(tuple(found), str(place) if place < len(ids) else None)


def _place(after: str) -> int:
    """Where a page begins. Raises UserError for what no page before can have said."""
    if not after:
        return 0
    if not (after.isascii() and after.isdecimal() and len(after) <= DIGITS):
        raise UserError("no page of answers begins there; begin with the first one")
    return int(after)


def flags() -> list[str]:
    """The marks of style that answers are looked through for."""
    return sorted(style.flags([""]))


def _fits(one: Answers, outcome: str, principle: str, flag: str, longer: bool | None, search: str) -> bool:
    return (
        outcome in ("", one.outcome)
        and (not principle or principle in one.by)
        and (not flag or any(flag in names for names in one.flags.values()))
        and (longer is None or (len(one.after) > len(one.before)) == longer)
        and (
            not search
            or any(search in text.casefold() for text in (one.before, one.after, *(m.content for m in one.messages)))
        )
    )


class _Reading:
    """A run's held-out answers and the evaluator's questions about them."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run = store, run
        text = store.constitution(run.constitution or "")
        constitution = loading.parse(text, "the run's constitution") if text else Constitution("", ())
        ruling, known = rulings.of(store, run, "evaluator"), store.clauses(run.constitution or "")
        questions = store.questions(store.stage_members(run.id, f"{STAGE}.pairs.questions"))
        asked = [(p, q) for q in questions for p in constitution if q.id in known.get(p.id, ())]
        self.names: dict[Id, tuple[str, ...]] = {}
        for principle, question in asked:
            if principle.id not in ruling.left_out:
                self.names[question.id] = (*self.names.get(question.id, ()), principle.id)
        self.voices: Mapping[Id, Voice] = label.combined(asked, ruling) if asked else {}
        self.rule: LabelRule = ruling.rule or rule_of(run)

    def of(self, ids: Sequence[Id]) -> Iterator[Answers | None]:
        """One an id, in their order: None where the model before could not be asked, so that there is no pair."""
        after = self.store.generations(ids)
        earlier = self.store.generations_about(self.run.id, f"{STAGE}.before", [g.prompt for g in after])
        before = {g.prompt: g for g in earlier}
        prompts = {p.id: p.messages for p in self.store.prompts(ids=[g.prompt for g in after])}
        pairs = [(before[g.prompt], g) for g in after if g.prompt in before]
        told = iter(self._told(pairs, prompts))
        for generation in after:
            yield next(told) if generation.prompt in before else None

    def _told(
        self, pairs: Sequence[tuple[Generation, Generation]], prompts: Mapping[Id, Messages]
    ) -> Iterator[Answers]:
        compared = [compare.pair(*pair) for pair in pairs]
        some = sorted({c.id for c in compared if c is not None})
        labels = {x.comparison: x for x in self.store.labels(some, self.voices, self.rule, whole=True)}
        votes = self._votes(some)
        marks = [style.flags([g.text for g in side]) for side in ([p[0] for p in pairs], [p[1] for p in pairs])]
        for place, ((one, other), comparison) in enumerate(zip(pairs, compared, strict=True)):
            told = {
                side: tuple(name for name, each in sorted(found.items()) if each[place])
                for side, found in zip(("before", "after"), marks, strict=True)
            }
            found = labels.get(comparison.id) if comparison else None
            yield self._shown(prompts.get(one.prompt, ()), one, other, found, votes, told)

    def _votes(self, ids: Sequence[Id]) -> dict[Id, list[tuple[bool, str]]]:
        """By comparison, who voted, the heaviest first, and whether for its first answer."""
        found: dict[Id, list[tuple[bool, str]]] = {}
        said = [c for c in self.store.contributions(ids, self.voices, self.rule) if c.chooses]
        for c in sorted(said, key=lambda c: (not c.hard, -c.tier, -abs(c.weight * c.s), c.question)):
            found.setdefault(c.comparison, []).extend((c.s > 0, name) for name in self.names.get(c.question, ()))
        return found

    def _shown(
        self,
        messages: Messages,
        one: Generation,
        other: Generation,
        found: Label | None,
        votes: Mapping[Id, Sequence[tuple[bool, str]]],
        flags: Mapping[str, tuple[str, ...]],
    ) -> Answers:
        if one.content == other.content:
            return Answers(one.prompt, messages, one.text, other.text, "same", None, (), (), flags)
        if found is None or found.preferred_first is None:
            state = "unreadable" if found is None else found.state
            return Answers(one.prompt, messages, one.text, other.text, state, None, (), (), flags)
        after_first = other.content < one.content
        outcome = "better" if found.preferred_first == after_first else "worse"
        p = found.p / PROBABILITY
        said = votes.get(found.comparison, ())
        by = tuple(name for first, name in said if first == found.preferred_first)
        against = tuple(name for first, name in said if first != found.preferred_first)
        return Answers(
            one.prompt, messages, one.text, other.text, outcome, p if after_first else 1 - p, by, against, flags
        )
