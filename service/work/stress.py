"""Two principles forced apart: prompts made for it, answered twice and judged by both; who wins, and whether the file
says so.

The critic (or the policy, where there is none) makes the prompts. Where none of what it makes is of use, that is said,
and stored pairs on which the two part are looked at instead. Prompts, answers and verdicts stay in the store in a run
of their own, so that the same again asks nothing; no pool of labels has any of it, and nothing is trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from constitution.records import PROBABILITY, Id, Message, canonical, dialogue_id
from constitution.writing import written
from pipeline import made_prompts, stress
from pipeline.asking import ask
from pipeline.judges.judge import Judge
from pipeline.made_prompts import Made
from pipeline.stress import Outcome, Precedence, Votes
from service.queries import pool
from service.settings import Settings, prepare_process
from service.wiring import Wiring
from service.work import life
from service.work.drift import refuse_drift
from service.work.progress import Progress
from service.work.roles import critic_of, role_of
from service.work.work import Work

KIND = "stress"  # of the run and of its stage
TRIES = 3  # times as many prompts are asked for as are wanted: small models say the same again
SHOWN = 3  # pairs of answers to a pair of principles


@dataclass(frozen=True)
class Shown:
    """A pair of answers on which the two part. `one`, `other`: which answer each prefers; `wins`: an id, or empty."""

    prompt: str
    first: str
    second: str
    one: str
    other: str
    wins: str


@dataclass(frozen=True)
class Forced:
    """Two principles. `made`: the prompts that the model made for them; empty where `stored` pairs were looked at."""

    one: Principle
    other: Principle
    precedence: Precedence
    asked: int
    made: Made
    stored: bool
    outcome: Outcome
    shown: Sequence[Shown]

    def as_dict(self) -> dict[str, Any]:
        return {
            "principles": [self.one.id, self.other.id], "file": self.precedence.as_dict(),
            "prompts": [text for _, text in self.made.texts], "asked": self.asked, "dropped": dict(self.made.dropped),
            "stored": self.stored, "outcome": self.outcome.as_dict(),
            "shown": [
                {"prompt": s.prompt, "first": s.first, "second": s.second, self.one.id: s.one, self.other.id: s.other,
                 "wins": s.wins or None} for s in self.shown
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class Stressed:
    """`of`: how many pairs of principles there are. `maker`: the model that made the prompts."""

    run: Id
    constitution: Constitution
    maker: str
    of: int
    pairs: Sequence[Forced]
    calls: dict[str, Any]

    @property
    def undecided(self) -> list[Forced]:
        """Where the file lets neither win."""
        return [pair for pair in self.pairs if not pair.precedence.wins]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run.hex(), "constitution": self.constitution.version, "maker": self.maker, "of": self.of,
            "pairs": [pair.as_dict() for pair in self.pairs],
            "undecided": [[pair.one.id, pair.other.id] for pair in self.undecided], "calls": self.calls,
        }  # fmt: skip


def force(settings: Settings, ids: Sequence[str], count: int, most: int, *, who: str, report: Progress) -> Stressed:
    """`ids`: the principles of which every pair is forced apart; none for all. `count`: prompts a pair. `most`: pairs,
    those first that the file does not decide.

    Raises UserError for an unknown id and fewer than two principles, BudgetReached at a limit.
    """
    prepare_process(settings)
    with closing(Wiring(settings)) as wiring:
        constitution = wiring.constitution
        every = _pairs(constitution, ids)
        pairs = sorted(every, key=lambda pair: bool(stress.precedence(*pair).wins))[:most]
        # The prompts are made so that both apply: what would settle that is left out of what the judge is asked.
        plain = [replace(p, when=None) for p in dict.fromkeys(p for pair in pairs for p in pair)]
        wiring.constitution = written(f"{constitution.name}, under stress"[:200], plain)
        about = {"settings": wiring.settings.identity(), "policy": wiring.start()}
        names = [[one.id, other.id] for one, other in pairs]
        key = canonical(
            {"kind": KIND, "pairs": names, "constitution": wiring.constitution.version, "n": count, **about}
        )
        with life.at_work(wiring, KIND, key, about, who=who, report=report) as work:
            refuse_drift(work)
            found = _force(work, constitution, pairs, count)
            maker = critic_of(work).engine.fingerprint if found else ""
            result = {"pairs": len(found), "undecided": sum(not f.precedence.wins for f in found)}
            work.store.finish_run(work.run.id, "finished", result=result)
            name = settings.critic.model if settings.critic else work.start
            return Stressed(work.run.id, constitution, name or maker, len(every), found, work.budget.as_dict())


def _pairs(constitution: Constitution, ids: Sequence[str]) -> list[tuple[Principle, Principle]]:
    known = {p.id: p for p in constitution}
    if unknown := [id for id in ids if id not in known]:
        raise UserError(f"there is no principle {unknown[0]!r}; there are {', '.join(known)}")
    some = [p for p in constitution if not ids or p.id in ids]
    if len(some) < 2:
        raise UserError("name two principles (or none, for all): what is forced apart is a pair")
    return list(combinations(some, 2))


def _force(
    work: Work, constitution: Constitution, pairs: Sequence[tuple[Principle, Principle]], count: int
) -> list[Forced]:
    made = _make(work, pairs, count)
    texts = list(dict.fromkeys(text for one in made for _, text in one.texts))
    comparisons = _answered(work, texts)
    judge = work.wiring.asked_judge(work.settings.judge)
    asking = work.wiring.judge(work.settings.judge) if any(comparisons.values()) else judge
    plain = {p.id: p for p in work.constitution}
    wanted: dict[Id, set[Id]] = {}
    for pair, one in zip(pairs, made, strict=True):
        for comparison in (comparisons[text] for _, text in one.texts):
            if comparison is not None:
                wanted.setdefault(comparison, set()).update(judge.question(plain[p.id]).id for p in pair)
    if wanted:
        work.ask_judge(KIND, asking, list(wanted), wanted)
    found = []
    for pair, one in zip(pairs, made, strict=True):
        ids = [c for _, text in one.texts if (c := comparisons[text]) is not None]
        asked = (plain[pair[0].id], plain[pair[1].id])
        stored = not ids
        if stored:  # as the labels ask: with whatever settles where they apply
            ids, asked = list(pool.find(work.store).comparisons), pair
        votes = _votes(work, judge, asked, ids)
        margin = work.settings.label.tie_margin
        found.append(
            Forced(
                *pair,
                stress.precedence(*pair),
                TRIES * count,
                one,
                stored,
                stress.outcome(list(votes.values()), *pair, margin),
                _shown(work, pair, votes, margin),
            )
        )
    return found


def _make(work: Work, pairs: Sequence[tuple[Principle, Principle]], count: int) -> list[Made]:
    """Prompts for each pair of principles, at most `count`, none of them twice."""
    critic = critic_of(work)
    critic = replace(critic, sampling=made_prompts.calm(critic.sampling))
    requests = [stress.request(*pair) for pair in pairs]
    work.store.add_dialogues(requests)
    asks = [
        ask("response", critic, request, prompt=dialogue_id(request), seed=work.settings.seed, sample=sample)
        for request in requests
        for sample in range(TRIES * count)
    ]
    given = work.gather(f"{KIND}.prompts", asks, critic, work.settings.policy.batch_size)
    made: list[Made] = []
    for place in range(len(pairs)):
        some = given[place * TRIES * count : (place + 1) * TRIES * count]
        known = [text for one in made for _, text in one.texts]
        kept = made_prompts.keep(
            [None if g is None else made_prompts.whole(g.text, g.finish_reason != "stop") for g in some],
            stress.examples(),
            known,
        )
        made.append(replace(kept, texts=kept.texts[:count]))
    return made


def _answered(work: Work, texts: Sequence[str]) -> dict[str, Id | None]:
    """By prompt, the comparison of two answers of the policy; None where there are no two that differ."""
    role = role_of(work, work.start)
    dialogues = [(Message("user", text),) for text in texts]
    work.store.add_dialogues(dialogues)
    asks = [
        ask("response", role, messages, prompt=dialogue_id(messages), seed=work.settings.seed, sample=sample)
        for messages in dialogues
        for sample in (0, 1)
    ]
    given = work.gather(f"{KIND}.answers", asks, role, work.settings.policy.batch_size) if asks else []
    found: dict[str, Id | None] = dict.fromkeys(texts)
    whole = [
        (text, one, other)
        for text, one, other in zip(texts, given[::2], given[1::2], strict=True)
        if one is not None and other is not None and one.text.strip() and other.text.strip()
    ]
    made = work.compare(KIND, [(one, other) for _, one, other in whole])
    return found | {text: comparison for (text, _, _), comparison in zip(whole, made, strict=True)}


def _votes(work: Work, judge: Judge, pair: Sequence[Principle], ids: Sequence[Id]) -> dict[Id, Votes]:
    """What each of the two says of each comparison that both were asked about."""
    questions = [judge.question(p).id for p in pair]
    work.store.add_questions([judge.question(p) for p in pair])
    weights = dict.fromkeys(questions, 1000)
    said: dict[Id, dict[Id, float]] = {}
    for c in work.store.contributions(ids, weights, work.settings.rule()) if ids else ():
        said.setdefault(c.comparison, {})[c.question] = c.s / PROBABILITY if c.readable and c.bears else 0.0
    return {
        id: Votes(some[questions[0]], some[questions[1]]) for id, some in said.items() if set(questions) <= some.keys()
    }


def _shown(work: Work, pair: tuple[Principle, Principle], votes: dict[Id, Votes], tie_margin: float) -> list[Shown]:
    """The pairs of answers on which the two part the most."""
    apart = sorted(
        (id for id, v in votes.items() if v.part), key=lambda id: -min(abs(votes[id].one), abs(votes[id].other))
    )
    side = {True: "first", False: "second"}
    return [
        Shown(
            found.messages[-1].content, found.first, found.second, side[votes[id].one > 0], side[votes[id].other > 0],
            stress.goes_to(votes[id], *pair, tie_margin),
        )
        for id, found in zip(apart[:SHOWN], work.store.pairs(apart[:SHOWN]), strict=True)
    ]  # fmt: skip
