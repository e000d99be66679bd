"""Texts: asks an engine for what is not stored yet, and stores what comes back.

Every batch is claimed, asked and committed whole, with its place in the run, so that a run killed anywhere goes on from
there, two runs never ask the same thing, and nothing is asked of a model twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from constitution.records import Comparison, Generation, GenerationKind, Id
from constitution.streams import Stream, parts
from pipeline import asking, compare
from pipeline.asking import Ask, Batches, Role
from pipeline.engines.engine import Refused
from service.work.holding import WAIT, Holding
from service.work.left_out import Omission, What

WHAT: Mapping[GenerationKind, What] = {"response": "answer", "critique": "critique", "revision": "revision"}


class Gather(Holding):
    def gather(self, stage: str, asks: Sequence[Ask], role: Role, batch: int) -> Sequence[Generation | None]:
        """The answers to a plan, in its order: stored ones looked up, missing ones asked for, all in the run. They are
        read when they are looked at.

        None in the place of a request that the engine refused: it is left out, and nothing of it is stored."""
        store = self.store
        refused: dict[Id, Refused] = {}
        left_out: dict[int, Omission] = {}
        plan = asking.batches(asks, batch)
        have = self._enrol_stored(stage, plan)
        lacking = len(plan.distinct) - sum(have)
        self.budget.reused += sum(have)
        with self.report.stage(stage, lacking) as progress:
            for number in range(len(plan)):
                if all(have[place] for place in plan.places(number)):
                    continue
                place = {a.id: at for a, at in zip(plan[number], plan.places(number), strict=True)}
                missing = [a for a in plan[number] if not have[place[a.id]]]
                while missing:
                    with self.claimed("generation", [a.id for a in missing]) as lease:
                        there = store.stored_generations([a.id for a in missing])
                        # What another worker wrote meanwhile is a member all the same.
                        store.add_members(self.run.id, stage, sorted(there), [place[i] for i in sorted(there)])
                        mine = [a for a in missing if a.id in lease.ids and a.id not in there]
                        if mine:
                            self.budget.afford(len(mine))
                            began = time.monotonic()
                            made, lost = asking.answer(mine, role.engine)
                            refused |= lost
                            self.budget.time("generate", len(made), time.monotonic() - began)
                            self.budget.generated += len(made)
                            self.budget.tokens += sum(g.prompt_tokens + g.tokens for g in made)
                            slots = [place[g.id] for g in made]
                            kept = store.add_generations(
                                made, run=self.run.id, stage=stage, ordinals=slots, lease=lease
                            )
                            there |= {g.id for g in kept}
                            progress.advance(len(made) + len(lost))
                        for id in there:
                            have[place[id]] = 1
                    missing = [a for a in missing if not have[place[a.id]] and a.id not in refused]
                    if missing:
                        time.sleep(WAIT)  # another worker has them: it finishes, or its lease ends
                for a in plan[number]:
                    if a.id in refused and not have[place[a.id]]:
                        left_out[place[a.id]] = Omission(stage, WHAT[a.kind], a.id, a.prompt, refused[a.id])
        for _, omission in sorted(left_out.items(), key=lambda one: one[0]):
            self.left_out.put(omission.of, omission)
        self.left_out.answered(stage, store.stored_generations(self.left_out.answers(stage)))
        self.say_left_out(stage)
        return self.answers(plan.ids)

    def answers(self, ids: Sequence[Id]) -> Stream[Generation | None]:
        """What is stored under ids of requests, in their order; None where nothing is."""

        def read(some: Sequence[Id]) -> list[Generation | None]:
            found = self.store.have_generations(some)
            return [found.get(id) for id in some]

        return Stream(ids, read)

    def _enrol_stored(self, stage: str, plan: Batches) -> bytearray:
        """Which asks of a plan are answered already, 1 in the place where each stands first: members of the stage."""
        have = bytearray(len(plan.ids))
        for places in parts(plan.distinct):
            known = self.store.stored_generations([plan.ids[place] for place in places])
            there = [place for place in places if plan.ids[place] in known]
            if there:
                self.store.add_members(self.run.id, stage, [plan.ids[place] for place in there], there)
            for place in there:
                have[place] = 1
        return have

    def compare(
        self, stage: str, pairs: Sequence[tuple[Generation, Generation]], *, more: bool = False
    ) -> list[Id | None]:
        """Store the comparisons of some pairs; the id of each, None where both texts are the same. They are the
        stage's, or with `more` they come after those that it has."""
        made = [compare.pair(one, other) for one, other in pairs]
        kept: dict[Id, tuple[Comparison, list[Id]]] = {}
        for comparison, (one, other) in zip(made, pairs, strict=True):
            if comparison is not None:
                kept.setdefault(comparison.id, (comparison, []))[1].extend([one.id, other.id])
        self.store.add_comparisons(
            [c for c, _ in kept.values()], origins=[sorted(set(o)) for _, o in kept.values()],
            run=self.run.id, stage=stage, ordinals=None if more else list(range(len(kept))),
        )  # fmt: skip
        return [c.id if c else None for c in made]
