"""Putting a plan of generations to an engine, batch by batch.

A verb (`respond`, `revise`, `evaluate`) only says *what* to ask: a sequence of `Ask`, each with the id that its request
determines. A long one is a `Stream`, made as it is looked at. Whoever runs the plan looks the ids up first and asks
only for what is missing, so running a plan again is resuming it. Batches are cut from the whole plan, never from what
is left of it: on one machine a resumed run then computes the very same batches, and is byte-equal.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, overload

import numpy as np

from constitution.records import Generation, GenerationKind, Id, Messages, request_id, seed_of
from constitution.streams import Ids, some
from pipeline.engines.engine import Chat, Engine, Generate, Refused, Sampling

AHEAD = 1_000  # asks of a plan that are made together
MOST = 16  # batches in flight: what a worker that is killed has to ask again


@dataclass(frozen=True)
class Role:
    """An engine in a role (policy, critic, judge, evaluator): how it is spoken to is part of what it is."""

    engine: Engine
    sampling: Sampling = field(default_factory=Sampling)
    answer_prefix: str = ""
    template_args: Mapping[str, Any] = field(default_factory=dict)

    def chat(self, messages: Messages) -> Chat:
        return Chat(messages, self.answer_prefix, self.template_args)


@dataclass(frozen=True)
class Ask:
    """One generation to be had: its id, the request, and what its record will say besides."""

    id: Id
    kind: GenerationKind
    prompt: Id
    request: Generate
    parent: Id | None = None
    principle: str | None = None
    round: int = 0
    sample: int = 0


def ask(
    kind: GenerationKind,
    role: Role,
    messages: Messages,
    *,
    prompt: Id,
    seed: int,
    parent: Id | None = None,
    principle: str | None = None,
    round: int = 0,
    sample: int = 0,
) -> Ask:
    """An Ask whose seed is a hash of (run seed, kind, prompt, sample, round), whatever its batch will hold."""
    own_seed = seed_of(seed, kind, prompt, sample, round)
    request = Generate(role.chat(messages), role.sampling, own_seed)
    ident = request_id(
        kind,
        messages=messages,
        engine=role.engine.fingerprint,
        sampling=asdict(role.sampling),
        seed=own_seed,
        answer_prefix=role.answer_prefix,
        template_args=role.template_args,
    )
    return Ask(ident, kind, prompt, request, parent, principle, round, sample)


class Batches(Sequence[list[Ask]]):
    """A plan cut into batches of at most `size`, asks of like length together (by id where lengths tie), each id once.

    `ids` are those of the plan, in its order, and `places` says where in it the asks of a batch stand. Of a plan that
    is a stream a batch is made when it is looked at, with those that come after it: 32 bytes an ask are kept.
    """

    def __init__(self, asks: Sequence[Ask], size: int) -> None:
        self.ids, lengths = Ids(), array("q")
        for a in asks:
            self.ids.append(a.id)
            lengths.append(sum(len(m.content) for m in a.request.chat.messages))
        first = self.ids.first_places()  # in the order of ids, which a stable sort by length keeps
        self._order = first[np.argsort(np.array(lengths, np.int64)[first], kind="stable")]
        self._asks, self._size = asks, size
        self._ahead, self._made = 0, list[Ask]()  # where in the order the asks stand that are made

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    @overload
    def __getitem__(self, number: int) -> list[Ask]: ...
    @overload
    def __getitem__(self, number: slice) -> list[list[Ask]]: ...
    def __getitem__(self, number: int | slice) -> list[Ask] | list[list[Ask]]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        begin, end = self._bounds(number)
        if not self._ahead <= begin < end <= self._ahead + len(self._made):
            ahead = max(1, AHEAD // self._size) * self._size
            self._ahead, self._made = begin, list(some(self._asks, self._order[begin : begin + ahead].tolist()))
        return self._made[begin - self._ahead : end - self._ahead]

    def __iter__(self) -> Iterator[list[Ask]]:
        return (self[number] for number in range(len(self)))

    @property
    def distinct(self) -> list[int]:
        """Where in the plan each different ask stands first, from its beginning to its end."""
        found: list[int] = np.sort(self._order).tolist()
        return found

    def places(self, number: int) -> list[int]:
        """Where in the plan the asks of a batch stand."""
        begin, end = self._bounds(number)
        places: list[int] = self._order[begin:end].tolist()
        return places

    def _bounds(self, number: int) -> tuple[int, int]:
        begin = range(len(self))[number] * self._size
        return begin, min(begin + self._size, len(self._order))


def batches(asks: Sequence[Ask], size: int) -> Batches:
    """The plan cut into batches of at most `size`, asks of like length together (by id where lengths tie)."""
    return Batches(asks, size)


def window(in_flight: int, requests: int) -> int:
    """How many batches of so many requests to have under way at once, for an engine that takes `in_flight`: as many as
    keep it busy while one of them ends. One where it computes by itself."""
    return 1 if in_flight <= 1 else min(MOST, 1 + -(-in_flight // requests))


def answer(batch: Sequence[Ask], engine: Engine) -> tuple[list[Generation], dict[Id, Refused]]:
    """Ask the engine for a whole batch and make the records of what came back. Besides, by id, what it refused: that
    leaves no record, so that another run may ask again."""
    found = list(zip(batch, engine.generate([a.request for a in batch]), strict=True))
    refused = {a.id: done for a, done in found if isinstance(done, Refused)}
    made = [
        Generation(
            id=a.id,
            kind=a.kind,
            prompt=a.prompt,
            text=done.text,
            finish_reason=done.finish_reason,
            engine=engine.fingerprint,
            parent=a.parent,
            principle=a.principle,
            round=a.round,
            sample=a.sample,
            prompt_tokens=done.prompt_tokens,
            tokens=done.tokens,
        )
        for a, done in found
        if not isinstance(done, Refused)
    ]
    return made, refused
