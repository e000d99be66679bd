"""Whether the settings' judge reads the wording of each question: asked on the principles' examples, with its twin.

What is asked is kept, as the examples' own verdicts are: the same again asks nothing. A run of the kind `examples`, so
that no pool of labels has any of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.principles import Constitution, Principle
from constitution.records import PROBABILITY, Id, LabelRule, Verdict, canonical
from constitution.writing import written
from pipeline import examples
from pipeline.examples import KIND, ExampleCase
from pipeline.judges.judge import Judge
from pipeline.metrics import twins, wording
from pipeline.metrics.finding import Finding
from pipeline.metrics.twins import Asked, TwinFigures
from service.settings import prepare_process
from service.wiring import Wiring
from service.work import life
from service.work.drift import refuse_drift
from service.work.progress import Progress
from service.work.work import Work

STAGE = "twins"


@dataclass(frozen=True)
class Wordings:
    figures: Sequence[TwinFigures]
    findings: Sequence[Finding]
    judge: str  # fingerprint

    def as_dict(self) -> dict[str, Any]:
        return {"judge": self.judge, "principles": [one.as_dict() for one in self.figures]}


def ask(wiring: Wiring, constitution: Constitution, *, who: str, report: Progress) -> Wordings:
    """Ask the judge each question and its twin on the examples. Raises BudgetReached at a limit."""
    prepare_process(wiring.settings)
    own = wiring.settings.judge.method
    asked = [p for p in constitution if wording.asks(p, own)]
    silent = {p.id: p.judge.method if p.judge else own for p in constitution if not wording.asks(p, own)}
    turned = {p.id: text for p in asked if (text := p.twin or wording.twin(p.comparison))}
    no_twin = {p.id: p.comparison for p in asked if p.id not in turned and p.examples}
    tried = [p for p in asked if p.examples and p.id in turned]
    no_example = [p.id for p in asked if not p.examples]
    judge = wiring.asked_judge(wiring.settings.judge)
    if not tried:
        return Wordings([], twins.findings([], no_twin, no_example, silent), judge.fingerprint)
    # Every example is of its principle, so what settles where that applies is left out of both questions.
    plain = written(constitution.name, [replace(p, when=None) for p in tried])
    tried, twin = list(plain), _twins(plain.principles, turned)
    both = dict(zip((p.id for p in tried), zip(tried, twin, strict=True), strict=True))
    wiring.constitution = plain
    about = {"judge": judge.fingerprint, "twins": turned}
    cases = examples.plan(constitution, list(both))
    key = canonical({"kind": STAGE, "cases": [[c.principle.id, c.comparison.id] for c in cases], **about})
    with life.at_work(wiring, KIND, key, about, who=who, report=report) as work:
        said = _ask(work, judge, cases, both, twin)
        work.store.finish_run(work.run.id, "finished", result={"principles": len(both)})
    rule = wiring.settings.rule()
    found = [
        twins.figures(
            id, question.comparison, turned[id],
            [_asked(c, said, (judge.question(question).id, judge.question(other).id), rule) for c in cases
             if c.principle.id == id],
            own=bool(question.twin), of=len(both),
        )
        for id, (question, other) in both.items()
    ]  # fmt: skip
    return Wordings(found, twins.findings(found, no_twin, no_example, silent), judge.fingerprint)


def _twins(principles: Sequence[Principle], turned: Mapping[str, str]) -> Constitution:
    """Principles that ask the twins, and say all else that a judge reads as theirs do: their examples, which a judge
    may be shown, are turned round, too."""
    found = []
    for p in principles:
        examples = tuple(replace(e, better=e.worse, worse=e.better) for e in p.examples)
        twin = {"id": f"{p.id[:58]}-twin", "comparison": turned[p.id], "examples": examples}
        found.append(replace(p, exemplars=(), twin="", **twin))  # type: ignore[arg-type]
    return written("twins of questions", found)


Both = Mapping[str, tuple[Principle, Principle]]


def _ask(
    work: Work, judge: Judge, cases: Sequence[ExampleCase], both: Both, twin: Constitution
) -> dict[tuple[Id, Id], Verdict]:
    """Every verdict there is, by comparison and question, after what was missing was asked."""
    store = work.store
    store.add_dialogues([c.example.prompt for c in cases])
    store.add_answers([text for c in cases for text in (c.example.better, c.example.worse)])
    comparisons = {c.comparison.id: c.comparison for c in cases}
    store.add_comparisons(
        list(comparisons.values()), run=work.run.id, stage=KIND, ordinals=list(range(len(comparisons)))
    )
    ids = list(comparisons)
    asking: Judge | None = None
    store.put_constitution(twin.version, twin.source)
    for stage, constitution, place in ((KIND, work.constitution, 0), (STAGE, twin, 1)):
        questions = {id: judge.question(pair[place]).id for id, pair in both.items()}
        wanted = examples.wanted(cases, questions)
        store.add_questions([judge.question(pair[place]) for pair in both.values()])
        missing = store.missing_verdicts(ids, list(set(questions.values())))
        if asking is None and any(q in wanted[c] for c, q in missing):
            asking = work.wiring.judge(work.settings.judge)  # only now is its model loaded
            refuse_drift(work, "judge")
        work.ask_judge(stage, asking or judge, ids, wanted, constitution)
    asked = {judge.question(p).id for pair in both.values() for p in pair}
    return {(v.comparison, v.question): v for v in store.verdicts(ids, list(asked))}


def _asked(
    case: ExampleCase, said: Mapping[tuple[Id, Id], Verdict], questions: tuple[Id, Id], rule: LabelRule
) -> Asked:
    values = [_p(case, said.get((case.comparison.id, question)), rule) for question in questions]
    return Asked(case.comparison.prompt.hex(), *values)


def _p(case: ExampleCase, verdict: Verdict | None, rule: LabelRule) -> float | None:
    """The mean over both orders of the probability of `better`; None for what was left out, could not be read, or
    abstains (exactly one half in both orders)."""
    if verdict is None or min(verdict.mass1, verdict.mass2) < round(rule.min_mass * PROBABILITY):
        return None
    if verdict.p1 == verdict.p2 == PROBABILITY // 2:
        return None
    p = (verdict.p1 + verdict.p2) / (2 * PROBABILITY)
    return p if case.better_first else 1 - p
