"""Asks a judge about pairs whose better answer is known, and finds what it said of them.

What was asked is stored as verdicts are, in a stage that labels nothing, so that a second trial asks nothing and a
trial is a query over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from constitution.principles import Principle
from constitution.records import Id, Message
from pipeline import known
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Judge
from pipeline.known import Known
from pipeline.metrics import simple_judges
from pipeline.metrics.trial import Tried
from pipeline.trial import Trial, trial
from service.queries import trials
from service.work.work import Work

STAGE = "trial"  # of what is asked here: it labels nothing (`service.queries.pool.ASIDE`)
FIRST = 8  # pairs that tell whether a judge can be read: a second or two of a small model
FEW = 4  # known pairs, below which pairs of ours are asked about as well, to see whether it can be read
PLAIN = (  # a plain question, an answer to it, and one that nobody would prefer
    ("What is the capital of France?", "The capital of France is Paris.", "Go away, you are stupid."),
    ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "Eggs eggs eggs eggs eggs eggs."),
    ("Can you help me to write a letter?", "Gladly. Who is it for, and what should it say?", "No."),
    ("How many days has a week?", "A week has seven days.", "A week has forty days, as everybody knows."),
)


@dataclass(frozen=True)
class Asked:
    """A judge with the pairs that it was asked about, what it said of each, and its trial by that."""

    judge: Judge
    pairs: Sequence[Known]
    rows: Sequence[Tried]
    trial: Trial


def pairs_of(work: Work, judge: Judge) -> known.Chosen:
    """The pairs that a judge of a run is tried on."""
    return trials.chosen(work.constitution, work.settings, judge)


def ask(
    work: Work,
    judge: Judge,
    pairs: Sequence[Known],
    first: Callable[[Sequence[Tried]], None] | None = None,
    words: bool = False,
) -> Asked:
    """Ask a judge about known pairs what is not stored yet, and try it by all of it. `first` is called with what it
    said of the first few, before the rest is asked. `words`: a bag of words stands beside it, too, which takes a second
    to fit."""
    few = [*pairs[:FIRST], *plain(work, judge, pairs)]
    put(work, judge, few)
    if first is not None:
        first(rows_of(work, judge, few))
    put(work, judge, pairs[FIRST:])
    rows = rows_of(work, judge, pairs)
    others = simple_judges.simple(rows, [(p.better, p.worse) for p in pairs], None if words else ())
    names = [p.id for p in _asked(work, judge)]
    floor = work.settings.label.min_mass
    found = trial(rows, names, floor, others)
    return Asked(judge, pairs, rows, replace(found, exact=not names and not pairs))


def rows_of(work: Work, judge: Judge, pairs: Sequence[Known]) -> list[Tried]:
    """What is stored of a judge's word on some pairs."""
    comparisons = sorted({pair.comparison.id for pair in pairs})
    questions = sorted({judge.question(p).id for p in work.constitution})
    verdicts = {(v.comparison, v.question): v for v in work.store.verdicts(comparisons, questions)}
    return known.rows(pairs, verdicts, work.constitution, lambda p: judge.question(p).id, work.settings.label.min_mass)


def put(work: Work, judge: Judge, pairs: Sequence[Known]) -> None:
    """Have the judge answer the questions about some pairs, where it has not."""
    store = work.store
    wanted = known.wanted(pairs, work.constitution, lambda p: judge.question(p).id)
    store.add_dialogues([pair.messages for pair in pairs])
    store.add_answers([text for pair in pairs for text in (pair.better, pair.worse)])
    comparisons = {pair.comparison.id: pair.comparison for pair in pairs}
    store.add_comparisons(list(comparisons.values()), run=work.run.id, stage=STAGE)
    work.ask_judge(STAGE, judge, list(wanted), wanted)


def missing(work: Work, judge: Judge, pairs: Sequence[Known]) -> set[tuple[Id, Id]]:
    wanted = known.wanted(pairs, work.constitution, lambda p: judge.question(p).id)
    questions = sorted({q for some in wanted.values() for q in some})
    there = {(v.comparison, v.question) for v in work.store.verdicts(sorted(wanted), questions)}
    return {(c, q) for c, some in wanted.items() for q in some} - there


def plain(work: Work, judge: Judge, pairs: Sequence[Known]) -> list[Known]:
    """Pairs of ours, one a principle in turn, where there are few others and a model is asked at all."""
    principles = _asked(work, judge)
    if len(pairs) >= FEW or not principles:
        return []
    return [
        Known((Message("user", question),), better, worse, principles[n % len(principles)].id, source="plain")
        for n, (question, better, worse) in enumerate(PLAIN)
    ]


def _asked(work: Work, judge: Judge) -> list[Principle]:
    """The principles that a model is asked about: what code decides is not tried."""
    return [p for p in work.constitution if asks_a_model(judge, p)]
