"""Texts: asks an engine for what is not stored yet, and stores what comes back.

Every batch is claimed, asked and committed whole, with its place in the run, so that a run killed anywhere goes on from
there, two runs never ask the same thing, and nothing is asked of a model twice. How workers share them: `sharing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from constitution.records import Comparison, Generation, GenerationKind, Id
from constitution.streams import AT_ONCE, Ids, Stream, batched, parts
from pipeline import asking, compare
from pipeline.asking import Ask, Batches, Role
from pipeline.engines.engine import Engine, Refused
from service.work.holding import Holding
from service.work.left_out import Omission, What
from service.work.sharing import Batch, Sharing
from storage.claims import Lease

WHAT: Mapping[GenerationKind, What] = {"response": "answer", "critique": "critique", "revision": "revision"}


Answered: TypeAlias = tuple[list[Generation], dict[Id, Refused]]
ANOTHERS = 2  # in `have`: what another worker wrote meanwhile


class Texts(Batch):
    """Requests for texts, by id, and `places`: where in the plan each stands. `have` (what is answered, by place) and
    `left_out` are the stage's, and grow."""

    def __init__(
        self,
        work: Holding,
        stage: str,
        asks: Mapping[Id, Ask],
        places: Mapping[Id, int],
        engine: Engine,
        have: bytearray,
        left_out: dict[int, Omission],
    ) -> None:
        self.work, self.stage, self.asks, self.places, self.engine = work, stage, asks, places, engine
        self.have, self.left_out = have, left_out
        self.left = len(asks)

    def open(self) -> list[Id]:
        missing = [id for id in self.asks if not self.have[self.places[id]] and self.places[id] not in self.left_out]
        there = self.work.store.stored_generations(missing) if missing else set()
        for id in there:
            self.have[self.places[id]] = ANOTHERS
        return [id for id in missing if id not in there]

    def call(self, mine: Sequence[Id]) -> tuple[int, Callable[[], Answered]]:
        asked = [self.asks[id] for id in mine]
        return len(mine), lambda: asking.answer(asked, self.engine)

    def keep(self, said: Answered, seconds: float, lease: Lease) -> int:
        made, lost = said
        for id, refused in lost.items():
            ask = self.asks[id]
            self.left_out[self.places[id]] = Omission(self.stage, WHAT[ask.kind], id, ask.prompt, refused)
        budget = self.work.budget
        budget.time("generate", len(made), seconds)
        budget.generated += len(made)
        budget.tokens += sum(g.prompt_tokens + g.tokens for g in made)
        self.work.store.add_generations(
            made, run=self.work.run.id, stage=self.stage, ordinals=[self.places[g.id] for g in made], lease=lease
        )
        for g in made:
            self.have[self.places[g.id]] = 1
        return len(made) + len(lost)


class Gather(Sharing):
    def gather(self, stage: str, asks: Sequence[Ask], role: Role, batch: int) -> Sequence[Generation | None]:
        """The answers to a plan, in its order: stored ones looked up, missing ones asked for, all in the run. They are
        read when they are looked at.

        None in the place of a request that the engine refused: it is left out, and nothing of it is stored."""
        left_out: dict[int, Omission] = {}
        plan = asking.batches(asks, batch)
        have = self._enrol_stored(stage, plan)
        lacking = len(plan.distinct) - sum(have)
        self.budget.reused += sum(have)

        def cut() -> Iterator[Texts]:
            for number in range(len(plan)):
                places = plan.places(number)
                if all(have[place] for place in places):
                    continue
                at = {a.id: place for a, place in zip(plan[number], places, strict=True)}
                missing = {a.id: a for a in plan[number] if not have[at[a.id]]}
                yield Texts(self, stage, missing, at, role.engine, have, left_out)

        width = asking.window(role.engine.capabilities.in_flight, batch) if lacking else 1
        with self.report.stage(stage, lacking) as progress:
            self.share("generation", cut(), width, progress)
        for some in parts([place for place in plan.distinct if have[place] == ANOTHERS]):
            self.store.add_members(self.run.id, stage, [plan.ids[place] for place in some], some)  # all the same
        for place in sorted(left_out):
            if not have[place]:
                self.left_out.put(plan.ids[place], left_out[place])
        self.left_out.answered(stage, self.store.stored_generations(self.left_out.answers(stage)))
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

    def put_up(self, stage: str, pairs: Iterable[tuple[Generation, Generation]]) -> Ids:
        """Store the comparisons of however many pairs, a part at a time, as those of a stage; the ids of those whose
        texts differ, in the order of the pairs. One that comes again has its first slot."""
        found = Ids()
        for some in batched(pairs, AT_ONCE):
            found.extend(id for id in self.compare(stage, some, more=True) if id is not None)
        return found
