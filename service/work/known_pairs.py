"""Asks a judge about pairs whose better answer is known, and finds what it said of them.

What was asked is stored as verdicts are, in a stage that labels nothing, so that a second trial asks nothing and a
trial is a query over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from constitution.principles import Constitution, Principle
from constitution.records import Id, Message, Verdict
from constitution.tally import HALF
from pipeline import known, label
from pipeline.judges.applies import every_tag
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.judge import Case, Judge
from pipeline.judges.reading import PLAIN
from pipeline.known import Known
from pipeline.metrics import simple_judges
from pipeline.metrics.moved import Moved, least_sure, moved
from pipeline.metrics.trial import Tried
from pipeline.trial import Trial, trial
from service.queries import trials
from service.work.work import Work

STAGE = "trial"  # of what is asked here: it labels nothing (`service.queries.pool.ASIDE`)
FIRST = 8  # pairs that tell whether a judge can be read: a second or two of a small model
FEW = 4  # known pairs, below which pairs of ours are asked about as well, to see whether it can be read


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
    chosen: known.Chosen,
    first: Callable[[Sequence[Tried]], None] | None = None,
    words: bool = False,
) -> Asked:
    """Ask a judge about known pairs what is not stored yet, and try it by all of it. `first` is called with what it
    said of the first few, before the rest is asked. `words`: a bag of words stands beside it, too, which takes a second
    to fit."""
    pairs = chosen.pairs
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
    by_code = tuple(p.id for p in work.constitution if p.id not in names)
    found = replace(found, exact=not names and not pairs, by_code=by_code, unasked=chosen.beyond)
    return Asked(judge, pairs, rows, found)


def nobody(constitution: Constitution, judge: Judge) -> Trial:
    """The trial of a role that has no model: nobody is asked, and what code checks speaks alone."""
    names = [p.id for p in constitution if asks_a_model(judge, p)]
    by_code = tuple(p.id for p in constitution if p.id not in names)
    return replace(trial([], names), exact=not names, by_code=by_code, code_alone=True)


def rows_of(work: Work, judge: Judge, pairs: Sequence[Known]) -> list[Tried]:
    """What is stored of a judge's word on some pairs."""
    verdicts = {(v.comparison, v.question): v for v in answers(work, judge, pairs)}
    rule, voices = work.settings.rule(), label.voices(work.constitution, judge)
    return known.rows(pairs, verdicts, work.constitution, lambda p: judge.question(p).id, rule.min_mass, voices, rule)


def put(work: Work, judge: Judge, pairs: Sequence[Known]) -> None:
    """Have the judge answer the questions about some pairs, where it has not."""
    store = work.store
    wanted = _wanted(work, judge, pairs)
    store.add_dialogues([pair.messages for pair in pairs])
    store.add_answers([text for pair in pairs for text in (pair.better, pair.worse)])
    comparisons = {pair.comparison.id: pair.comparison for pair in pairs}
    store.add_comparisons(list(comparisons.values()), run=work.run.id, stage=STAGE)
    work.ask_judge(STAGE, judge, list(wanted), wanted)


def missing(work: Work, judge: Judge, pairs: Sequence[Known]) -> set[tuple[Id, Id]]:
    """The comparisons and questions that the judge was not asked yet."""
    there = {(v.comparison, v.question) for v in answers(work, judge, pairs)}
    return {(c, q) for c, some in _wanted(work, judge, pairs).items() for q in some} - there


def again(work: Work, judge: Judge, pairs: Sequence[Known], count: int) -> Moved:
    """Ask a judge once more about some pairs of which its answers are stored, those that it was least sure of. What it
    says now is compared and not stored."""
    wanted = {(c, q) for c, some in _wanted(work, judge, pairs).items() for q in some}
    stored = [v for v in answers(work, judge, pairs) if (v.comparison, v.question) in wanted]
    stored = [v for v in stored if not v.p1 == v.p2 == HALF]  # abstained: nothing there to move
    by_id = {pair.comparison.id: pair for pair in pairs}
    principles = {judge.question(p).id: p for p in _asked(work, judge)}
    chosen = least_sure([v for v in stored if v.question in principles], count)
    if not chosen:
        return moved([], [])
    said = judge.judge([case(by_id[v.comparison], (principles[v.question],)) for v in chosen])
    work.budget.judged(said.used)
    return moved(chosen, said.verdicts)


def case(pair: Known, principles: tuple[Principle, ...]) -> Case:
    """A known pair as a judge is asked about it."""
    one, other = (pair.better, pair.worse) if pair.better_first else (pair.worse, pair.better)
    return Case(pair.comparison, pair.messages, one, other, principles, every_tag(principles))


def answers(work: Work, judge: Judge, pairs: Sequence[Known]) -> list[Verdict]:
    """The stored verdicts of a judge on some pairs, under whatever principle."""
    comparisons = sorted({pair.comparison.id for pair in pairs})
    return list(work.store.verdicts(comparisons, sorted({judge.question(p).id for p in work.constitution})))


def _wanted(work: Work, judge: Judge, pairs: Sequence[Known]) -> dict[Id, set[Id]]:
    return known.wanted(pairs, work.constitution, lambda p: judge.question(p).id)


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
