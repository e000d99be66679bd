"""Texts: asks an engine for what is not stored yet, and stores what comes back.

Every batch is claimed, asked and committed whole, with its place in the run, so that a run killed anywhere goes on from
there, two runs never ask the same thing, and nothing is asked of a model twice. How workers share them: `sharing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from constitution.records import Comparison, Generation, GenerationKind, Id
from pipeline import asking, compare
from pipeline.asking import Ask, Role
from pipeline.engines.engine import Engine, Refused
from service.work.holding import Holding
from service.work.left_out import Omission, What
from service.work.sharing import Batch, Sharing
from storage.claims import Lease

WHAT: Mapping[GenerationKind, What] = {"response": "answer", "critique": "critique", "revision": "revision"}


Answered: TypeAlias = tuple[list[Generation], dict[Id, Refused]]


class Texts(Batch):
    """Requests for texts. `have` and `refused` are the stage's, and grow."""

    def __init__(
        self,
        work: Holding,
        stage: str,
        asks: Sequence[Ask],
        engine: Engine,
        place: Mapping[Id, int],
        have: dict[Id, Generation],
        refused: dict[Id, Refused],
    ) -> None:
        self.work, self.stage, self.engine, self.place = work, stage, engine, place
        self.asks = {a.id: a for a in asks}
        self.have, self.refused = have, refused
        self.left = len(self.asks)

    def open(self) -> list[Id]:
        asked = [i for i in self.asks if i not in self.have and i not in self.refused]
        if asked:
            self.have |= self.work.store.have_generations(asked)
        return [i for i in asked if i not in self.have]

    def call(self, mine: Sequence[Id]) -> tuple[int, Callable[[], Answered]]:
        asked = [self.asks[i] for i in mine]
        return len(mine), lambda: asking.answer(asked, self.engine)

    def keep(self, said: Answered, seconds: float, lease: Lease) -> int:
        made, lost = said
        self.refused |= lost
        budget = self.work.budget
        budget.time("generate", len(made), seconds)
        budget.generated += len(made)
        budget.tokens += sum(g.prompt_tokens + g.tokens for g in made)
        kept = self.work.store.add_generations(
            made, run=self.work.run.id, stage=self.stage, ordinals=[self.place[g.id] for g in made], lease=lease
        )
        self.have |= {g.id: g for g in kept}
        return len(made) + len(lost)


class Gather(Sharing):
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
        planned = {a.id: a for a in asks}
        missing = [[a.id for a in some if a.id not in have] for some in asking.batches(asks, batch)]
        missing = [some for some in missing if some]
        width = asking.window(role.engine.capabilities.in_flight, batch) if missing else 1
        with self.report.stage(stage, len(place) - len(have)) as progress:
            cut = (
                Texts(self, stage, [planned[i] for i in some], role.engine, place, have, refused) for some in missing
            )
            self.share("generation", cut, width, progress)
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
