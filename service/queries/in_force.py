"""The constitution for those who read it: each principle with who wrote it and why, how it passed its examples, what
the judge's last trial said of it, and (apart, because all verdicts are read for it) how often it decides.

Read from the store; no model is loaded and nothing is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from constitution import loading
from constitution.blame import READ, blame_principles
from constitution.errors import UserError
from constitution.principles import Constitution, Principle
from pipeline import examples
from pipeline.examples import ExampleCase, ExampleResult
from pipeline.metrics.finding import Finding
from service.queries import lint, trials
from service.wiring import Wiring
from storage.amendments import Amendment
from storage.runs import Run
from storage.store import Store


@dataclass(frozen=True)
class Mark:
    """An example of a principle, and what the judge said of it when it was last asked; `found` None: it was not asked
    in these words. `outcome`: `passed`, why it failed in a word, or `not asked`; `why`: that in a line."""

    number: int
    prompt: Sequence[tuple[str, str]]  # role and text
    better: str
    worse: str
    outcome: str
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number, "prompt": [{"role": r, "content": c} for r, c in self.prompt],
            "better": self.better, "worse": self.worse, "outcome": self.outcome, "why": self.why,
        }  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """A principle in force. `by`: the amendment that last changed what a model reads or weighs of it; `wrote`: by
    field, the one that last changed it. `tried`: what the trial found under it, as a word, or empty."""

    principle: Principle
    by: Amendment
    wrote: Mapping[str, Amendment]
    marks: Sequence[Mark]
    tried: str = ""
    tried_on: int = 0  # pairs of the trial

    @property
    def passed(self) -> int:
        return sum(mark.outcome == "passed" for mark in self.marks)

    @property
    def asked(self) -> int:
        return sum(mark.outcome != "not asked" for mark in self.marks)

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.principle.as_dict(),
            "by": _of(self.by),
            "wrote": {name: amendment.number for name, amendment in self.wrote.items()},
            "examples": [mark.as_dict() for mark in self.marks],
            "passed": self.passed,
            "asked": self.asked,
            "tried": self.tried or None,
            "tried_on": self.tried_on,
        }


@dataclass(frozen=True)
class InForce:
    """`trial`: what the judge's last trial under this version says, in a sentence. `unknown`: why examples have no
    marks, where the judge's questions are not known."""

    amendment: Amendment
    constitution: Constitution
    principles: Sequence[Standing]
    trial: str
    believed: bool | None  # None: it was not tried
    unknown: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            **_of(self.amendment), "constitution": self.constitution.name, "trial": self.trial,
            "believed": self.believed, "principles": [each.as_dict() for each in self.principles],
        }  # fmt: skip


@dataclass(frozen=True)
class Decides:
    """How often a principle was asked, voted, and decided a label (leaving it out turns it), and what lint says."""

    principle: str
    judged: int = 0
    votes: int = 0
    decides: int = 0
    findings: Sequence[Finding] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "principle": self.principle, "judged": self.judged, "votes": self.votes, "decides": self.decides,
            "findings": [each.as_dict() for each in self.findings],
        }  # fmt: skip


@dataclass(frozen=True)
class Weighed:
    """Every principle's `Decides`, over so many labels of a run's pool; `findings`: all of them, the gravest first."""

    run: Run | None
    labels: int
    principles: Mapping[str, Decides]
    findings: Sequence[Finding]
    shown: Mapping[bytes, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run.id.hex() if self.run else None, "labels": self.labels,
            "principles": [each.as_dict() for each in self.principles.values()],
            "findings": [each.as_dict() for each in self.findings],
        }  # fmt: skip


def in_force(wiring: Wiring, revision: str = "ratified") -> InForce:
    """A constitution of the store, as it stands. Raises UserError where nothing is ratified, or no revision fits."""
    store = wiring.store
    amendment = store.amendment(revision)
    constitution = of_amendment(amendment)
    past = store.amendments()[: amendment.number]
    wrote = blame_principles([a.text for a in past])
    told = trials.last(store, wiring.settings, "judge", constitution.version)
    tallies: Mapping[str, Any] = told["principles"] if told else {}
    marks, unknown = _marks(wiring, constitution)
    standing = [
        Standing(
            p,
            past[max(wrote[p.id][name] for name in READ)],
            {name: past[index] for name, index in wrote[p.id].items()},
            marks.get(p.id, ()),
            str(tallies.get(p.id, {}).get("verdict", "")),
            int(tallies.get(p.id, {}).get("asked", 0)),
        )
        for p in constitution
    ]
    said = trials.said(told, "judge", wiring.settings.trial.required)
    return InForce(amendment, constitution, standing, said, told["believed"] if told else None, unknown)


def decides(wiring: Wiring, revision: str = "ratified", run: str = "") -> Weighed:
    """What the stored verdicts on a run's pool say of each principle: all of them are read."""
    wiring.constitution = of_amendment(wiring.store.amendment(revision))
    found = lint.lint(wiring, run=run)
    figures = {f.principle: f for f in found.lint.figures}
    by_principle = {}
    for p in found.constitution:
        said = [each for each in found.findings if p.id in each.principles]
        f = figures.get(p.id)
        counts = (f.judged, f.bears, f.flips.count) if f else (0, 0, 0)
        by_principle[p.id] = Decides(p.id, *counts, said)
    return Weighed(found.pool.run, found.lint.comparisons, by_principle, found.findings, found.shown)


def marks(wiring: Wiring, constitution: Constitution) -> dict[str, list[Mark]]:
    """By principle its examples, each as the judge answered when it was last asked in these words."""
    return _marks(wiring, constitution)[0]


def of_amendment(amendment: Amendment) -> Constitution:
    return loading.parse(amendment.text, f"amendment {amendment.number}")


def _marks(wiring: Wiring, constitution: Constitution) -> tuple[dict[str, list[Mark]], str]:
    if not any(p.examples for p in constitution):
        return {}, ""
    results, unknown = {}, ""
    try:
        results = _results(wiring, constitution)
    except UserError as error:  # the judge's model is not here, say: its questions are not known
        unknown = str(error)
    rule, method = wiring.settings.rule(), wiring.settings.judge.method
    found: dict[str, list[Mark]] = {}
    for p in constitution:
        for number, example in enumerate(p.examples, 1):
            result = results.get((p.id, number))
            outcome = result.outcome if result else "not asked"
            why = examples.reason(result, rule, method) if result else "the judge was not asked about it in these words"
            prompt = tuple((m.role, m.content) for m in example.prompt)
            found.setdefault(p.id, []).append(Mark(number, prompt, example.better, example.worse, outcome, why))
    return found, unknown


def _results(wiring: Wiring, constitution: Constitution) -> dict[tuple[str, int], ExampleResult]:
    """What the store's verdicts say of each example that was asked about."""
    cases = _cases(constitution)
    judge, rule = wiring.asked_judge(wiring.settings.judge), wiring.settings.rule()
    questions = {p.id: judge.question(p).id for p in constitution}
    ids = sorted({case.comparison.id for case in cases})
    said = {(v.comparison, v.question): v for v in _verdicts(wiring.store, ids, sorted(set(questions.values())))}
    return {
        (c.principle.id, c.number): examples.result(c, verdict, rule)
        for c in cases
        if (verdict := said.get((c.comparison.id, questions[c.principle.id]))) is not None
    }


def _cases(constitution: Constitution) -> list[ExampleCase]:
    """Those that can be asked: of two equal answers neither can win."""
    some = [p for p in constitution if p.examples and all(e.better != e.worse for e in p.examples)]
    return examples.plan(constitution, [p.id for p in some]) if some else []


def _verdicts(store: Store, comparisons: list[bytes], questions: list[bytes]) -> list[Any]:
    return list(store.verdicts(comparisons, questions)) if comparisons else []


def _of(amendment: Amendment) -> dict[str, Any]:
    return {
        "amendment": amendment.number, "version": amendment.version, "at": amendment.at, "who": amendment.who,
        "why": amendment.message,
    }  # fmt: skip
