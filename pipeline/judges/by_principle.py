"""The judge that everybody gets (`pipeline.judges.build`): it settles whether a principle applies, then hands each
principle to the judge that its `judge:` names, or to the role's own. No judge by itself: it has no name in settings.

- A principle that does not apply (`pipeline.judges.applies`) is asked nobody: both orders get exactly one half, which
  abstains under every label rule. `when` is part of the question's id, because it decides what a verdict says.
- Principles are gathered by judge, so that each engine is asked about a whole batch at once.
- A judge that a principle names is asked with the role's own engine, unless its options have `another`: the settings of
  a role of its own, as in `[judge]`.
- What judges the training labels and what measures them may not share a model. So the evaluator takes a principle's
  judge only where that brings no model along: code (`rule`) is the same for both, for it has nothing that training
  could learn to please, and a method (`reasoned`) is put to the evaluator's own engine. Where options name a model, the
  evaluator asks by its own method.

Where no principle names anything it is the role's own judge: the same fingerprint, questions, requests and answers.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from constitution.errors import UserError
from constitution.principles import CODE, JudgedBy, Principle
from constitution.records import PROBABILITY, Id, Question, Verdict
from pipeline.asking import Role
from pipeline.judges.applies import Applies, Settled
from pipeline.judges.checked import checked
from pipeline.judges.judge import Another, Case, Judge, Judged, Omitted
from pipeline.options import within

ANOTHER = "another"  # the option that holds the settings of a principle's own engine
_MODELS = ("model", "paths", "path")  # options that name one

Make: TypeAlias = Callable[[str, Role, Mapping[str, Any], Another], Judge]


class ByPrinciple:
    def __init__(
        self,
        own: Judge,
        roles: Sequence[Role],
        make: Make,
        another: Another,
        evaluator: bool = False,
        settled: Settled | None = None,
    ) -> None:
        """`own`: the role's judge. `roles`: its own and those that `another` made, as they are made. `make`: a judge by
        name. `settled`: what is known of prompts already."""
        self.own = own
        self._roles, self._role, self._make, self._another = roles, roles[0], make, another
        self._evaluator = evaluator
        self._applies = Applies(self._role, settled)
        self._settling = threading.Lock()  # what one batch finds out of a prompt, another does not ask again
        self._judges: dict[JudgedBy, Judge] = {}
        self._questions: dict[Principle, Question] = {}

    @property
    def fingerprint(self) -> str:
        return self.own.fingerprint

    @property
    def in_flight(self) -> int:
        """As an engine's: 1 where a judge remembers answers from batch to batch, or where any engine computes by
        itself. Of the judges that principles name, those whose questions were made."""
        if not all(getattr(judge, "apart", False) for judge in (self.own, *self._judges.values())):
            return 1
        return min(role.engine.capabilities.in_flight for role in self._roles)

    def of(self, principle: Principle) -> Judge:
        """Who is asked about a principle that applies. Raises UserError, naming it, where that cannot be had."""
        by = principle.judge
        if by is None or (self._evaluator and names_a_model(by.options)):
            return self.own
        if by not in self._judges:
            try:
                self._judges[by] = self._made(by)
            except UserError as error:
                raise UserError(f"the judge of the principle {principle.id}: {error}") from None
        return self._judges[by]

    def question(self, principle: Principle) -> Question:
        if principle.judge is None and principle.when is None:
            return self.own.question(principle)
        if principle not in self._questions:
            asked = self.of(principle).question(principle)
            if principle.when is not None:
                try:
                    whom = self._applies.readout(principle.when)
                except UserError as error:
                    raise UserError(f"`when` of the principle {principle.id}: {error}") from None
                asked = replace(asked, readout={**asked.readout, "when": whom})
            self._questions[principle] = asked
        return self._questions[principle]

    def judge(self, cases: Sequence[Case]) -> Judged:
        if all(p.judge is None and p.when is None for case in cases for p in case.principles):
            return self.own.judge(cases)
        with self._settling:
            used = self._applies.settle(cases)
        said = self._said(cases)
        found = {key: {(v.comparison, v.question): v for v in judged.verdicts} for key, judged in said.items()}
        omitted = {key: {(o.comparison, o.question): o for o in judged.omitted} for key, judged in said.items()}
        verdicts: list[Verdict] = []
        left_out: list[Omitted] = []
        outer: dict[tuple[int, Id, Id], list[Id]] = {}  # of a verdict of one of the judges, the questions it answers
        for case in cases:
            for principle in case.principles:
                question = self.question(principle).id
                if not self._applies.applies(principle, case):
                    verdicts.append(abstaining(question, case.comparison.id))
                    continue
                judge = self.of(principle)
                key = (case.comparison.id, judge.question(principle).id)
                outer.setdefault((id(judge), *key), []).append(question)
                if key in omitted[id(judge)]:
                    left_out.append(replace(omitted[id(judge)][key], question=question))
                else:
                    verdicts.append(replace(found[id(judge)][key], question=question))
        reasons = [
            replace(reason, question=question)
            for key, judged in said.items()
            for reason in judged.reasons
            for question in dict.fromkeys(outer[key, reason.comparison, reason.question])
        ]
        for judged in said.values():
            used += judged.used
        return Judged(verdicts, reasons, used, tuple(left_out))

    def _said(self, cases: Sequence[Case]) -> dict[int, Judged]:
        """What each judge says of what is its own, asked once for all of it. Two principles that ask it the same are
        one question."""
        judges: dict[int, Judge] = {}
        plan: dict[int, list[Case]] = {}
        for case in cases:
            mine: dict[int, dict[Id, Principle]] = {}
            for principle in case.principles:
                if self._applies.applies(principle, case):
                    judge = self.of(principle)
                    judges[id(judge)] = judge
                    mine.setdefault(id(judge), {}).setdefault(judge.question(principle).id, principle)
            for key, principles in mine.items():
                plan.setdefault(key, []).append(replace(case, principles=tuple(principles.values())))
        return {key: checked(judges[key], some, judges[key].judge(some)) for key, some in plan.items()}

    def _made(self, by: JudgedBy) -> Judge:
        options = by.options
        given = options.pop(ANOTHER, None)
        if given is None:
            role = self._role
        elif isinstance(given, Mapping):
            with within(ANOTHER):
                role = self._another(given)
        else:
            raise UserError(f"{ANOTHER} is {given!r}; it is the settings of a role, such as {{model: a-folder}}")
        return self._make(by.method, role, options, self._another)


def abstaining(question: Id, comparison: Id) -> Verdict:
    """The verdict of one that has nothing to say: exactly one half in both orders, and all of it readable."""
    half = PROBABILITY // 2
    return Verdict(question, comparison, half, half, PROBABILITY, PROBABILITY)


def asks_a_model(judge: Judge, principle: Principle) -> bool:
    """Whether the answer about this principle comes from a model; a judge of code says that it does not."""
    of = judge.of(principle) if isinstance(judge, ByPrinciple) else judge
    return bool(getattr(of, "asks_a_model", True))


def by_models(principles: Iterable[Principle]) -> list[Principle]:
    """Those that a model judges, as far as they say so themselves."""
    return [p for p in principles if p.judge is None or p.judge.method != CODE]


def is_free(principle: Principle) -> bool:
    """Whether code alone answers its question: no model judges it, nor says whether it applies."""
    return not by_models([principle]) and not (principle.when is not None and principle.when.ask)


def asked_most(questions: Sequence[Question]) -> str:
    """The fingerprint of the judge that most of the questions were put to, code aside where a model was asked too."""
    judges = [q.judge for q in questions if q.readout.get("method") != CODE] or [q.judge for q in questions]
    return Counter(judges).most_common(1)[0][0]


def names_a_model(options: Any) -> bool:
    """Whether a judge's options have a model in them, however deep."""
    if isinstance(options, Mapping):
        return any(key in _MODELS or names_a_model(value) for key, value in options.items())
    return isinstance(options, list | tuple) and any(map(names_a_model, options))
