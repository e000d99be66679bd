"""Labels and the win rate with each principle left out, and any one label as the sum of its principles' parts.

Read from stored verdicts; no model is loaded and nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Id
from pipeline import compare, label
from pipeline.metrics import attribution, lint, voting
from pipeline.metrics.attribution import Account, Flips
from pipeline.metrics.intervals import Interval, interval_of
from pipeline.metrics.voting import Votes
from pipeline.metrics.win_rate import wins_by_outcome
from service.queries import pool, rulings
from service.queries.rulings import Whose
from service.wiring import Wiring
from storage.runs import Run
from storage.texts import Pair

EVALUATION = "evaluation"


@dataclass(frozen=True)
class LeftOut:
    """Labels of the pool: how many have each outcome, and what leaving a principle out changes. A principle without a
    verdict (`not_judged`) has no part in them."""

    run: Run | None
    outcomes: dict[str, int]
    principles: list[Flips]
    not_judged: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run.id.hex() if self.run else None,
            "outcomes": self.outcomes,
            "not_judged": self.not_judged,
            "principles": [
                {
                    "principle": flips.principle,
                    "flips": flips.count,
                    "changes": {f"{before} to {after}": count for (before, after), count in flips.changes.items()},
                    "comparisons": [id.hex() for id in flips.comparisons],
                }
                for flips in self.principles
            ],
        }


@dataclass(frozen=True)
class Rate:
    """A win rate without one principle, with a 95% interval; `change`: from the one with it, paired by prompt."""

    principle: str
    win_rate: Interval
    change: Interval


@dataclass(frozen=True)
class WinRates:
    """The win rate of a run's model on held-out prompts, and without each principle."""

    run: Run
    prompts: int
    win_rate: Interval
    principles: list[Rate]
    not_judged: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run.id.hex(),
            "prompts": self.prompts,
            **_numbers(self.win_rate),
            "not_judged": self.not_judged,
            "principles": [
                {"principle": r.principle, **_numbers(r.win_rate), "change": _numbers(r.change)}
                for r in self.principles
            ],
        }


@dataclass(frozen=True)
class Explained:
    """A label, the two answers it is about and the dialogue they answer. `evaluation`: it is the evaluator's label."""

    account: Account
    pair: Pair
    evaluation: bool

    def as_dict(self) -> dict[str, Any]:
        pair, account = self.pair, self.account
        return {
            "comparison": account.label.comparison.hex(),
            "evaluation": self.evaluation,
            "state": account.label.state,
            "outcome": account.outcome,
            "p": account.label.p / 10**9,
            "principles": [
                {
                    "principle": part.principle,
                    "weight": part.weight / 1000,
                    "standing": part.standing,
                    "margin": None if part.s is None else part.s / 10**9,
                    "moved": float(part.moved),
                    "without": part.without,
                    "tier": part.tier,
                    "hard": part.hard,
                }
                for part in account.parts
            ],
            "prompt": [{"role": m.role, "content": m.content} for m in pair.messages],
            "first": pair.first,
            "second": pair.second,
        }


def _numbers(of: Interval) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if value == value else None for name, value in of.as_dict().items()}


def votes(
    wiring: Wiring, constitution: Constitution, comparisons: Sequence[Id], whose: Whose, run: Run | None = None
) -> Votes:
    """What the stored verdicts of the judge, or the evaluator, on the comparisons come to under the principles, by what
    its trial in that run decided (who has no voice, the rule); else by the settings' label rule."""
    judge = wiring.asked_judge(getattr(wiring.settings, whose))
    ruling = rulings.under(wiring.store, run, judge, constitution, whose)
    questions, voices = label.by_principle(constitution, judge, ruling)
    evidence = wiring.store.evidence(comparisons, list(dict.fromkeys(questions.values())))
    return voting.votes(evidence, questions, voices, ruling.rule or wiring.settings.rule())


def labels(wiring: Wiring, constitution: Constitution, run: str = "") -> LeftOut:
    """Labels of the pool with each principle left out."""
    found = pool.find(wiring.store, run)
    every = votes(wiring, constitution, found.comparisons, "judge", found.run)
    names = lint.judged(every)
    judged = every.part(principles=names)
    outcomes, _ = attribution.left_out(judged)
    counts = {name: int((outcomes == code).sum()) for code, name in enumerate(attribution.OUTCOMES)}
    return LeftOut(found.run, counts, attribution.flips(judged), [p for p in every.principles if p not in names])


def win_rate(wiring: Wiring, constitution: Constitution, run: str = "") -> WinRates:
    """The win rate of a run (the newest finished one) with each principle left out. Raises UserError where no run was
    evaluated, or the evaluator has not been asked about any of these principles."""
    store = wiring.store
    chosen = store.run(run) if run else pool.newest(store.runs())
    before, after = (
        {g.prompt: g for g in store.generations_of(chosen.id, f"{EVALUATION}.{side}")} if chosen else {}
        for side in ("before", "after")
    )
    pairs = [(before[prompt], answer) for prompt, answer in after.items() if prompt in before]
    if chosen is None or not pairs:
        raise UserError(
            "no finished run has answers to compare: `precept improve` or `precept model evaluate` makes them"
        )
    made = [compare.pair(*pair) for pair in pairs]
    every = votes(wiring, constitution, [c.id for c in made if c], "evaluator", chosen)
    names = lint.judged(every)
    if not names:
        raise UserError(
            "the evaluator has not been asked about any of these principles: evaluate under them, or name the "
            "constitution that the run had"
        )
    judged = every.part(principles=names)
    ids = [c.id if c else None for c in made]
    with_all, without = attribution.left_out(judged)
    base = wins_by_outcome(judged, with_all, pairs, ids)
    rates = []
    for i, name in enumerate(judged.principles):
        values = wins_by_outcome(judged, without[:, i], pairs, ids)
        rates.append(Rate(name, _rate(values), _rate(values - base, least=-1.0)))
    not_judged = [p for p in every.principles if p not in names]
    return WinRates(chosen, len(pairs), _rate(base), rates, not_judged)


def _rate(values: np.ndarray, least: float = 0.0) -> Interval:
    return interval_of(values[np.isfinite(values)].tolist(), least)


def explain(wiring: Wiring, constitution: Constitution, comparison: str, run: str = "") -> Explained:
    """The label of the comparison whose id begins so: one of the pool's, or of those that the run was evaluated on.
    Raises UserError where none or several fit."""
    store = wiring.store
    found = pool.find(store, run)
    evaluated = store.stage_members(found.run.id, f"{EVALUATION}.pairs") if found.run else []
    prefix = comparison.lower()
    id = _only(prefix, [i for i in dict.fromkeys((*found.comparisons, *evaluated)) if i.hex().startswith(prefix)])
    ours = id in set(found.comparisons)
    of = votes(wiring, constitution, [id], "judge" if ours else "evaluator", found.run)
    (pair,) = store.pairs([id])
    return Explained(attribution.account(of, 0), pair, evaluation=not ours)


def _only(prefix: str, fitting: Sequence[Id]) -> Id:
    if len(fitting) == 1 and prefix:
        return fitting[0]
    if not fitting:
        raise UserError(
            f"no comparison begins with {prefix!r}; `precept constitution attribute --json` names those that flip"
        )
    some = ", ".join(id.hex()[:12] for id in fitting[:5])
    raise UserError(f"{len(fitting):,} comparisons begin with {prefix!r} ({some}, ...); write more of the id")
