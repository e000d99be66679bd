"""Verdicts: has a judge answer what it was not asked yet, both orders, and stores what it says.

Batches are cut from the whole plan, not from what remains, and committed whole: see `gather.py`. What the judge had to
omit is no verdict: it is kept in `left_out`, its comparison has no label in this run, and a later run asks again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set

from constitution.principles import Constitution, Principle
from constitution.records import Id, Label, make_id
from pipeline import compare
from pipeline.engines.engine import Refused
from pipeline.judges.by_principle import asks_a_model
from pipeline.judges.checked import checked
from pipeline.judges.judge import Case, Judge, Judged
from service.queries.rulings import Whose
from service.work.holding import WAIT, Holding
from service.work.left_out import Omission


class Judging(Holding):
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
        store, plan = self.store, sorted(set(comparisons))
        heard = constitution if whose is None else self.heard(whose)
        by_question = {judge.question(p).id: p for p in heard}
        store.add_questions(
            [judge.question(p) for p in constitution.principles],
            constitution=constitution.version, run=self.run.id, stage=f"{stage}.questions",
        )  # fmt: skip

        def lacking(ids: Sequence[Id]) -> dict[Id, list[Id]]:
            found: dict[Id, list[Id]] = {}
            for c, q in store.missing_verdicts(ids, list(by_question)):
                if (only is None or q in only[c]) and (c, q) not in omitted:
                    found.setdefault(c, []).append(q)
            return found

        missing = lacking(plan)
        total = sum(len(q) for q in missing.values())
        wanted = len(plan) * len(by_question) if only is None else sum(len(only[c] & by_question.keys()) for c in plan)
        self.budget.reused += wanted - total
        with self.report.stage(stage, total) as progress:
            for batch in compare.judging_batches(missing, plan, self.settings.compare.questions_per_batch):
                while batch:
                    units = {make_id("verdict", c=c, q=q): (c, q) for c, asked in batch.items() for q in asked}
                    mine: dict[Id, list[Id]] = {}
                    with self.claimed("verdict", list(units)) as lease:
                        still = set(store.missing_verdicts(list(batch), list(by_question)))
                        for unit in lease.ids:
                            c, q = units[unit]
                            if (c, q) in still:
                                mine.setdefault(c, []).append(q)
                        if mine:
                            said = self._ask_batch(judge, self._cases(mine, by_question))
                            omitted |= {(o.comparison, o.question): o.refused for o in said.omitted}
                            store.add_verdicts(
                                said.verdicts, reasons=said.reasons, run=self.run.id, stage=stage, lease=lease
                            )
                            progress.advance(len(said.verdicts) + len(said.omitted))
                    batch = lacking(list(batch))
                    if batch and not mine:
                        time.sleep(WAIT)
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
        self.left_out.answered(stage, {(c, q) for c in plan for q in questions} - omitted.keys())
        about = {p.comparison.id: p.comparison.prompt for p in self.store.pairs(sorted({c for c, _ in omitted}))}
        for (c, q), refused in omitted.items():
            self.left_out.put((c, q), Omission(stage, "comparison", c, about[c], refused))
        self.say_left_out(stage)

    def _ask_batch(self, judge: Judge, cases: Sequence[Case]) -> Judged:
        """What the judge says. Two requests a verdict are what it has to afford, but where code gives it; what it used
        is what is counted."""
        self.budget.afford(2 * sum(asks_a_model(judge, p) for case in cases for p in case.principles))
        began = time.monotonic()
        said = checked(judge, cases, judge.judge(cases))
        self.budget.time("judge", len(said.verdicts), time.monotonic() - began)
        self.budget.judged(said.used)
        return said

    def _cases(self, asked: dict[Id, list[Id]], principles: dict[Id, Principle]) -> list[Case]:
        pairs = self.store.pairs(list(asked))
        tags = self.tags([p.comparison.prompt for p in pairs], principles.values())
        return [
            Case(
                p.comparison, p.messages, p.first, p.second, tuple(principles[q] for q in asked[p.comparison.id]),
                tags[p.comparison.prompt],
            )
            for p in pairs
        ]  # fmt: skip
