"""A constitution's examples before the settings' judge, both orders; what it answers is stored, so that running the
same again asks nothing.

No Prefect flow: a test in a pull request should not wait for a server. Its run has no prompts and ratifies nothing (a
draft may be tested), and is the same only while the examples are. Examples are no
prompts, so no split knows them; their comparisons lie in a run and a stage of the kind `examples`, which pools of
labels leave out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from constitution.principles import Constitution
from constitution.records import Id, LabelRule, Verdict, canonical
from pipeline import examples
from pipeline.examples import KIND, ExampleCase, ExampleResult
from pipeline.judges.judge import Judge
from service.settings import Settings, prepare_process
from service.wiring import Wiring
from service.work import life
from service.work.drift import refuse_drift
from service.work.progress import Progress
from service.work.work import Work


@dataclass(frozen=True)
class Examined:
    """`asked`: the (comparison, question)s that the judge was asked now, not before; they took `seconds` in all."""

    run: Id
    constitution: Constitution
    judge: str  # fingerprint
    rule: LabelRule
    results: Sequence[ExampleResult]
    asked: frozenset[tuple[Id, Id]]
    questions: Mapping[str, Id]  # by principle's id
    seconds: float
    calls: Mapping[str, int]
    method: str  # of the settings' judge, which is asked where a principle names none

    @property
    def failed(self) -> list[ExampleResult]:
        return [found for found in self.results if not found.passed]

    @property
    def stored_before(self) -> int:
        """How many verdicts were there already. Examples of principles with the same words may share one."""
        return len({self._verdict(found) for found in self.results} - self.asked)

    def seconds_of(self, found: ExampleResult) -> float:
        """Its share of the asking: 0 where the verdict was stored before."""
        sharing = sum(self._verdict(one) in self.asked for one in self.results)
        return self.seconds / sharing if self._verdict(found) in self.asked else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "constitution": self.constitution.name,
            "version": self.constitution.version,
            "judge": self.judge,
            "passed": len(self.results) - len(self.failed),
            "failed": len(self.failed),
            "without_examples": examples.without_examples(self.constitution),
            "examples": [
                {
                    "principle": found.case.principle.id,
                    "number": found.case.number,
                    "outcome": found.outcome,
                    "reason": examples.reason(found, self.rule, self.method),
                    "p_shown_as_a": _known(found.shown_a),
                    "p_shown_as_b": _known(found.shown_b),
                    "margin": _known(found.margin),
                    "mass": _known(found.mass),
                    "prompt": [{"role": m.role, "content": m.content} for m in found.case.example.prompt],
                    "better": found.case.example.better,
                    "worse": found.case.example.worse,
                }
                for found in self.results
            ],
            "run": self.run.hex(),
            "calls": dict(self.calls),
            "seconds": self.seconds,
        }

    def _verdict(self, found: ExampleResult) -> tuple[Id, Id]:
        return found.case.comparison.id, self.questions[found.case.principle.id]


def examine(settings: Settings, ids: Sequence[str], *, who: str, report: Progress) -> Examined:
    """Judge the examples of the settings' constitution, or of the principles named in `ids`.

    Raises UserError where there is nothing to test, BudgetReached at a limit, EngineError where the judge fails; what
    was answered until then is stored.
    """
    prepare_process(settings)
    with closing(Wiring(settings)) as wiring:
        cases = examples.plan(wiring.constitution, ids)  # a mistake in it is told before a model is loaded
        judge, rule = wiring.asked_judge(settings.judge), settings.rule()
        about: dict[str, Any] = {"judge": judge.fingerprint, "rule": asdict(rule)}
        with life.at_work(wiring, KIND, _key(wiring, cases, judge, about), about, who=who, report=report) as work:
            found = _examine(work, cases, judge, rule)
            passed = len(found.results) - len(found.failed)
            work.store.finish_run(work.run.id, "finished", result={"passed": passed, "failed": len(found.failed)})
            return found


def _key(wiring: Wiring, cases: Sequence[ExampleCase], judge: Judge, about: Mapping[str, Any]) -> str:
    """A constitution's version does not cover its examples, so the run's key names each of them."""
    asked = [[c.principle.id, judge.question(c.principle).id, c.comparison.id, c.better_first] for c in cases]
    return canonical({"kind": KIND, "constitution": wiring.constitution.version, "cases": asked, **about})


def _examine(work: Work, cases: Sequence[ExampleCase], judge: Judge, rule: LabelRule) -> Examined:
    store = work.store
    questions = {c.principle.id: judge.question(c.principle).id for c in cases}
    wanted = examples.wanted(cases, questions)
    store.add_dialogues([c.example.prompt for c in cases])
    store.add_answers([text for c in cases for text in (c.example.better, c.example.worse)])
    comparisons = {c.comparison.id: c.comparison for c in cases}
    store.add_comparisons(
        list(comparisons.values()), run=work.run.id, stage=KIND, ordinals=list(range(len(comparisons)))
    )
    pairs = {(comparison, question) for comparison, some in wanted.items() for question in some}
    missing = pairs - _verdicts(work, pairs).keys()
    if missing:
        judge = work.wiring.judge(work.settings.judge)  # only now is its model loaded
        refuse_drift(work, "judge")
    work.ask_judge(KIND, judge, list(wanted), wanted)
    verdicts = _verdicts(work, pairs)
    said = {o.of: o.refused.said for o in work.left_out.everything}
    found = [
        examples.result(c, verdict, rule)
        if (verdict := verdicts.get((c.comparison.id, questions[c.principle.id])))
        else examples.left_out(c, said[c.comparison.id])
        for c in cases
    ]
    _, seconds = work.budget.rates.get("judge", (0, 0.0))
    return Examined(
        work.run.id, work.constitution, judge.fingerprint, rule, found, frozenset(missing), questions, seconds,
        work.budget.as_dict(), work.settings.judge.method,
    )  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _verdicts(work: Work, pairs: set[tuple[Id, Id]]) -> dict[tuple[Id, Id], Verdict]:
    comparisons, questions = sorted({c for c, _ in pairs}), sorted({q for _, q in pairs})
    found = {(v.comparison, v.question): v for v in work.store.verdicts(comparisons, questions)}
    return {pair: found[pair] for pair in pairs if pair in found}
