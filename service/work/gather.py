"""Texts: asks an engine for what is not stored yet, and stores what comes back.

Every batch is claimed, asked and committed whole, with its place in the run, so that a run killed anywhere goes on from
there, two runs never ask the same thing, and nothing is asked of a model twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from constitution.records import Comparison, Generation, GenerationKind, Id
from pipeline import asking, compare
from pipeline.asking import Ask, Role
from pipeline.engines.engine import Refused
from service.work.holding import WAIT, Holding
from service.work.left_out import Omission, What

WHAT: Mapping[GenerationKind, What] = {"response": "answer", "critique": "critique", "revision": "revision"}


class Gather(Holding):
    def gather(self, stage: str, asks: Sequence[Ask], role: Role, batch: int) -> list[Generation | None]:
        """The answers to a plan, in its order: stored ones looked up, missing ones asked for, all in the run.

        None in the place of a request that the engine refused: it is left out, and nothing of it is stored."""
        store = self.store
        refused: dict[Id, Refused] = {}
        place: dict[Id, int] = {}
        for ordinal, a in enumerate(asks):
            place.setdefault(a.id, ordinal)
        have = store.have_generations(list(place))
        self.budget.reused += len(have)
        if have:
            stored = [i for i in place if i in have]
            store.add_members(self.run.id, stage, stored, [place[i] for i in stored])
        with self.report.stage(stage, len(place) - len(have)) as progress:
            for planned in asking.batches(asks, batch):
                missing = [a for a in planned if a.id not in have]
                while missing:
                    with self.claimed("generation", [a.id for a in missing]) as lease:
                        have |= store.have_generations([a.id for a in missing])
                        mine = [a for a in missing if a.id in lease.ids and a.id not in have]
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
                            have |= {g.id: g for g in kept}
                            progress.advance(len(made) + len(lost))
                    missing = [a for a in missing if a.id not in have and a.id not in refused]
                    if missing:
                        time.sleep(WAIT)  # another worker has them: it finishes, or its lease ends
        late = [i for i in place if i in have]  # what another worker wrote meanwhile is a member all the same
        store.add_members(self.run.id, stage, late, [place[i] for i in late])
        self.left_out.answered(stage, list(have))
        for a in asks:
            if a.id in refused and a.id not in have:
                self.left_out.put(a.id, Omission(stage, WHAT[a.kind], a.id, a.prompt, refused[a.id]))
        self.say_left_out(stage)
        return [have.get(a.id) for a in asks]

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
