"""Verdicts: has a judge answer what it was not asked yet, both orders, and stores what it says.

Batches are cut from the whole plan, not from what remains, and committed whole: see `sharing.py`. What the judge had to
omit is no verdict: it is kept in `left_out`, its comparison has no label in this run, and a later run asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from constitution.principles import Constitution, Principle
from constitution.records import Id, Label, make_id
from constitution.streams import AT_ONCE, Ids, parts
from pipeline import asking, compare
from pipeline.engines.engine import Refused
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.checked import checked
from pipeline.judges.judge import Case, Judge, Judged
from service.queries.rulings import Whose
from service.work.left_out import Omission
from service.work.sharing import Batch, Sharing
from storage.claims import Lease


class Verdicts(Batch):
    """Questions about comparisons: `asked`, by comparison. `omitted` is the stage's, and grows."""

    def __init__(
        self,
        work: Judging,
        stage: str,
        judge: Judge,
        asked: Mapping[Id, Sequence[Id]],
        principles: Mapping[Id, Principle],
        omitted: dict[tuple[Id, Id], Refused],
    ) -> None:
        self.work, self.stage, self.judge, self.principles, self.omitted = work, stage, judge, principles, omitted
        self.comparisons, self.questions = list(asked), sorted({q for questions in asked.values() for q in questions})
        self.units = {(c, q): make_id("verdict", c=c, q=q) for c, questions in asked.items() for q in questions}
        self.pairs = {unit: pair for pair, unit in self.units.items()}
        self.left = len(self.units)

    def open(self) -> list[Id]:
        missing = self.work.store.without_verdict(self.comparisons, self.questions)
        return [unit for pair, unit in self.units.items() if pair in missing and pair not in self.omitted]

    def call(self, mine: Sequence[Id]) -> tuple[int, Callable[[], Judged]]:
        """Two requests a verdict are what it has to afford, but where code gives it; what it used is what is
        counted."""
        asked: dict[Id, list[Id]] = {}
        for unit in mine:
            comparison, question = self.pairs[unit]
            asked.setdefault(comparison, []).append(question)
        cases, judge = self.work.asked_cases(asked, self.principles), self.judge
        cost = 2 * sum(asks_a_model(judge, p) for case in cases for p in case.principles)
        return cost, lambda: checked(judge, cases, judge.judge(cases))

    def keep(self, said: Judged, seconds: float, lease: Lease) -> int:
        self.omitted |= {(o.comparison, o.question): o.refused for o in said.omitted}
        self.work.budget.time("judge", len(said.verdicts), seconds)
        self.work.budget.judged(said.used)
        self.work.store.add_verdicts(
            said.verdicts, reasons=said.reasons, run=self.work.run.id, stage=self.stage, lease=lease
        )
        return len(said.verdicts) + len(said.omitted)


class Judging(Sharing):
    def ask_judge(
        self,
        stage: str,
        judge: Judge,
        comparisons: Sequence[Id],
        only: Mapping[Id, Set[Id]] | None = None,
        constitution: Constitution | None = None,
        whose: Whose | None = None,
    ) -> None:
        """Have the judge answer each principle's question about each comparison, both orders, where it has not.

        `only`: by comparison, the questions to be asked where it is not all of them. `constitution`: this run's, or
        another whose principles are asked about besides. `whose`: in the role whose trial says which principles are
        asked about (`heard`).
        """
        constitution = constitution or self.constitution
        omitted: dict[tuple[Id, Id], Refused] = {}
        store, plan = self.store, Ids(comparisons).in_order()
        heard = constitution if whose is None else self.heard(whose)
        by_question = {judge.question(p).id: p for p in heard}
        store.add_questions(
            [judge.question(p) for p in constitution.principles],
            constitution=constitution.version, run=self.run.id, stage=f"{stage}.questions",
        )  # fmt: skip

        def missing(some: Sequence[Id]) -> dict[Id, list[Id]]:
            found: dict[Id, list[Id]] = {}
            for c, q in store.missing_verdicts(some, list(by_question)):
                if only is None or q in only[c]:
                    found.setdefault(c, []).append(q)
            return found

        total = most = 0
        for some in parts(plan):
            lacking = [len(asked) for asked in missing(some).values()]
            total, most = total + sum(lacking), max(most, *lacking, 0)
        wanted = len(plan) * len(by_question) if only is None else sum(len(only[c] & by_question.keys()) for c in plan)
        self.budget.reused += wanted - total
        questions = self.settings.compare.questions_per_batch
        size = compare.batch_size(most, questions)
        width = asking.window(getattr(judge, "in_flight", 1), 2 * questions) if total else 1
        with self.report.stage(stage, total) as progress:
            cut = (
                Verdicts(self, stage, judge, asked, by_question, omitted)
                for some in (parts(plan, max(1, AT_ONCE // size) * size) if total else ())
                for asked in compare.judging_batches(missing(some), some, questions, most)
            )
            self.share("verdict", cut, width, progress)
        self._leave_out(stage, plan, list(by_question), omitted)

    def labels(self, judge: Judge, comparisons: Sequence[Id], whose: Whose = "judge") -> dict[Id, Label]:
        """As `RunRecords` has them, without the comparisons that the judge had to omit a question about in this run:
        whatever the others say of them, they are not labelled."""
        found = super().labels(judge, comparisons, whose)
        without = self.omitted(judge, whose)
        return {ident: label for ident, label in found.items() if ident not in without}

    def omitted(self, judge: Judge, whose: Whose = "judge") -> set[Id]:
        """The comparisons that the judge had to omit a question about, of this run's constitution and with a voice."""
        return self.left_out.comparisons(set(self.voices(judge, whose)))

    def _leave_out(
        self, stage: str, plan: Sequence[Id], questions: Sequence[Id], omitted: Mapping[tuple[Id, Id], Refused]
    ) -> None:
        before = [(c, q) for c, q in self.left_out.questions(stage) if q in questions and (c, q) not in omitted]
        lost = {c for c, _ in before}
        here = {c for c in plan if c in lost} if lost else set()
        self.left_out.answered(stage, [(c, q) for c, q in before if c in here])
        about = {p.comparison.id: p.comparison.prompt for p in self.store.pairs(sorted({c for c, _ in omitted}))}
        for (c, q), refused in omitted.items():
            self.left_out.put((c, q), Omission(stage, "comparison", c, about[c], refused))
        self.say_left_out(stage)

    def asked_cases(self, asked: Mapping[Id, Sequence[Id]], principles: Mapping[Id, Principle]) -> list[Case]:
        """The comparisons with their texts, each with the principles of the questions that are asked about it."""
        pairs = self.store.pairs(list(asked))
        tags = self.tags([p.comparison.prompt for p in pairs], principles.values())
        return [
            Case(
                p.comparison, p.messages, p.first, p.second, tuple(principles[q] for q in asked[p.comparison.id]),
                tags[p.comparison.prompt],
            )
            for p in pairs
        ]  # fmt: skip
