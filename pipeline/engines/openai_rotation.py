"""Several servers of one model behind one role: who is asked what, and what happens when one is gone.

A call is cut into single requests (of questions on vLLM: packs), which are dealt out in turn, beginning at a server
that the call's first request decides: the same call asks the same servers again. A server that fails, or is silent for
unusually long and then gives no token, is left out with one line, and its requests go to the next one. It is asked
again now and then, and comes back when it answers as who it was. The last one left is waited for as a single server
is, so that a failure of all of them ends as it does with one. An answer counts only where its server, asked after it,
was who it was.

A single server is handed whole calls, as it always was.
"""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from constitution.errors import UserError
from pipeline.engines.engine import (
    Choice,
    Choose,
    Completion,
    EngineError,
    EngineSettings,
    Generate,
    Refused,
    Score,
    Scored,
)
from pipeline.engines.openai_identity import Identity
from pipeline.engines.openai_server import AnotherModel, Dialect, Options, Server
from pipeline.engines.openai_silence import Say
from pipeline.engines.openai_transport import RefusedByServer
from pipeline.engines.openai_vllm import VllmDialect

T = TypeVar("T")
LOOK_EVERY = 0.5  # seconds between two looks at who is silent, and who may be asked again
TOKEN_SECONDS = 10.0  # for one token of a server that is silent for unusually long
MEETING_SECONDS = 60.0  # for a server to say who it is
FIRST_AGAIN, LONGEST_AGAIN = 2.0, 60.0  # seconds until one that was left out is asked again, doubled each time
Work = Callable[[Dialect], Awaitable[T]]


@dataclass(eq=False)
class Place:
    """A server and how it stands: `out` says why it is left out, `again` when it is asked again (monotonic seconds)."""

    server: Server
    out: str = ""
    again: float = 0.0
    pause: float = FIRST_AGAIN
    running: set[asyncio.Future[Any]] = field(default_factory=set)
    meeting: asyncio.Task[None] | None = None
    probing: asyncio.Task[None] | None = None


class Rotation:
    """The servers of one engine. Called in one event loop."""

    def __init__(self, urls: Sequence[str], settings: EngineSettings, options: Options, key: Any) -> None:
        self._options = options
        self._first: tuple[str, Identity] | None = None  # who the server is that was met first
        self._places = [Place(Server(url, settings, options, key, lambda: self._first)) for url in urls]
        for place in self._places:
            place.server.transport.patient = self._is_last(place)
        self._dialect: type[Dialect] | None = None  # and what it speaks
        self._beginning = asyncio.Lock()
        self._begun = len(urls) == 1
        self._calls = 0
        self._looking: asyncio.Task[None] | None = None
        self._wrong: UserError | None = None  # of a server that came late and is another model

    # --- what the engine asks of all of them ---------------------------------------------------------------------

    async def found(self) -> Dialect:
        """The dialect of the first server that is in rotation and says which it speaks."""
        failure = EngineError("no server is left")
        for place in self._in():
            try:
                return await place.server.find()
            except EngineError as error:
                failure = error
        raise failure

    async def find(self) -> None:
        await self._of_each(lambda server: server.find())

    async def check(self) -> None:
        await self._of_each(self._met)

    async def introduced(self) -> Identity:
        if len(self._places) == 1:
            return await self._places[0].server.introduced()
        await self._begin()
        for place in self._in():
            try:
                return await place.server.introduced()
            except EngineError as failure:
                if len(self._in()) == 1:
                    raise
                self._leave_out(place, str(failure))
        raise EngineError("no server is left")

    async def release(self) -> None:
        for place in self._in():
            await place.server.release()

    def tell(self, say: Say) -> None:
        for place in self._places:
            place.server.transport.say = say

    async def close(self) -> None:
        for place in self._places:
            await place.server.transport.close()

    async def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        if len(self._places) == 1:
            return await self._alone(lambda dialect: dialect.generate(requests))
        found = await self._shared([_generating(request) for request in requests], requests[0])
        return [each for part in found for each in part]

    async def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        if len(self._places) == 1:
            return await self._alone(lambda dialect: dialect.score(requests))
        found = await self._shared([_scoring(request) for request in requests], requests[0])
        return [each for part in found for each in part]

    async def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        if len(self._places) == 1:
            return await self._alone(lambda dialect: dialect.choose(groups))
        await self._begin()
        packed = isinstance(await self.found(), VllmDialect)
        asked = [(chat, group.labels) for group in groups for chat in group.chats]
        each = math.ceil(len(asked) / len(self._places)) if packed else 1  # a small call, too, is everybody's
        size = max(1, min(self._options.prompts_per_request, each))
        packs: list[Choose] = []
        for chat, labels in asked:
            if packs and packs[-1].labels == labels and len(packs[-1].chats) < size:
                packs[-1] = Choose((*packs[-1].chats, chat), labels)
            else:
                packs.append(Choose((chat,), labels))
        found = await self._shared([_choosing(pack) for pack in packs], packs[0]) if packs else []
        choices = iter([choice for part in found for [*row] in part for choice in row])
        return [[next(choices) for _ in group.chats] for group in groups]

    # --- one server ----------------------------------------------------------------------------------------------

    async def _alone(self, work: Work[T]) -> T:
        server = self._places[0].server
        return await self._answered(server, work)

    async def _answered(self, server: Server, work: Work[T]) -> T:
        dialect = await server.ready()
        try:
            answers = await work(dialect)
        except RefusedByServer as refusal:
            raise server.explained(refusal) from None
        await server.settle(dialect)  # what another server said is not handed on
        return answers

    async def _met(self, server: Server) -> None:
        """Meet a server for the first time. Raises AnotherModel where it is another than the first."""
        dialect = await server.ready()
        if self._first is None and server.known is not None:
            self._first, self._dialect = (server.host, server.known), type(dialect)
        if self._first is not None and type(dialect) is not self._dialect:
            raise AnotherModel(
                f"of the servers at {self._first[0]} and {server.host} one is vLLM and the other is not: they answer "
                "otherwise; name servers of one kind as base_url, or set the engine's option dialect"
            )

    async def _of_each(self, ask: Callable[[Server], Awaitable[object]]) -> None:
        """Ask every server. Raises the first UserError, or else the first EngineError."""
        failure: EngineError | None = None
        for place in self._places:
            try:
                await ask(place.server)
            except EngineError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    # --- several -------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Meet them all, the first of them first. Raises UserError where one is another model than the first."""
        async with self._beginning:
            if self._begun:
                return
            for place in self._places:
                try:
                    if self._is_last(place)():
                        await self._met(place.server)
                    else:
                        async with asyncio.timeout(MEETING_SECONDS):
                            await self._met(place.server)
                except (EngineError, TimeoutError) as failure:
                    if self._is_last(place)():
                        raise
                    self._leave_out(place, str(failure) or f"it did not say who it is within {MEETING_SECONDS:.0f} s")
            self._begun = True

    async def _shared(self, work: Sequence[Work[T]], first: object) -> list[T]:
        """The results of all pieces, in their order, each by a server in rotation. The first failure ends the rest."""
        await self._begin()
        start = zlib.crc32(repr(first).encode("utf-8", "surrogatepass"))
        with self._looked_after():
            tasks = [asyncio.ensure_future(self._one(start + turn, piece)) for turn, piece in enumerate(work)]
            try:
                return await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise

    async def _one(self, turn: int, work: Work[T]) -> T:
        while True:
            if self._wrong is not None:
                raise self._wrong
            place = self._turn(turn)
            waited_for = self._is_last(place)()
            running = asyncio.ensure_future(self._answered(place.server, work))
            place.running.add(running)
            try:
                return await running
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not place.out or (task is not None and task.cancelling()):
                    raise
            except (EngineError, AnotherModel) as failure:
                if self._is_last(place)():
                    if waited_for or isinstance(failure, AnotherModel):
                        raise
                elif not place.out:
                    self._leave_out(place, str(failure), for_good=isinstance(failure, AnotherModel))
            finally:
                place.running.discard(running)

    def _turn(self, turn: int) -> Place:
        """Whose turn it is: every server has its own, and one that is left out leaves it to the next."""
        places = [self._places[(turn + further) % len(self._places)] for further in range(len(self._places))]
        return next(place for place in places if not place.out)

    def _in(self) -> list[Place]:
        return [place for place in self._places if not place.out]

    def _is_last(self, place: Place) -> Callable[[], bool]:
        return lambda: not any(other is not place and not other.out for other in self._places)

    def _leave_out(self, place: Place, why: str, for_good: bool = False) -> None:
        place.out, place.pause = why, FIRST_AGAIN
        place.again = math.inf if for_good else time.monotonic() + place.pause
        left = len(self._in())
        others = "the other server goes on" if left == 1 else f"{left} others go on"
        place.server.transport.say(
            f"{why}: {others} without it"
            if for_good
            else f"the server at {place.server.host} is left out ({_short(why)}): {others}, and it is asked again now "
            "and then"
        )
        for running in list(place.running):
            running.cancel()

    # --- who is silent, and who comes back -----------------------------------------------------------------------

    @contextmanager
    def _looked_after(self) -> Iterator[None]:
        """Around a call: while one is under way, silent servers are seen, and those that were left out asked again."""
        self._calls += 1
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        while True:
            now = time.monotonic()
            for place in self._places:
                if place.out and now >= place.again and (place.meeting is None or place.meeting.done()):
                    place.meeting = asyncio.get_running_loop().create_task(self._meet_again(place))
                silent = not place.out and not self._is_last(place)() and place.server.transport.silent_for()
                if silent and (place.probing is None or place.probing.done()):
                    place.probing = asyncio.get_running_loop().create_task(self._probe(place))
            await asyncio.sleep(LOOK_EVERY)

    async def _probe(self, place: Place) -> None:
        """Ask a silent server for a token: a long answer is none of its faults."""
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                await (await place.server.find()).probe(TOKEN_SECONDS)
        except (EngineError, UserError, TimeoutError):
            if not place.out and not self._is_last(place)():
                self._leave_out(place, f"it is silent, and gave no token within {TOKEN_SECONDS:.0f} s")

    async def _meet_again(self, place: Place) -> None:
        """Take a server back that answers as who it was."""
        server = place.server
        server.transport.forgive()
        try:
            async with asyncio.timeout(MEETING_SECONDS):
                if server.known is None:
                    await self._met(server)
                else:
                    await (await server.find()).probe(TOKEN_SECONDS)
                    await server.introduced()
        except (EngineError, TimeoutError):
            place.pause = min(LONGEST_AGAIN, 2 * place.pause)
            place.again = time.monotonic() + place.pause
        except UserError as error:
            if server.known is None:
                self._wrong = error
            else:
                place.again = math.inf
                server.transport.say(f"{error}: it stays left out")
        else:
            place.out = ""
            server.transport.say(f"the server at {server.host} answers again, as who it was: it is asked again")


def _generating(request: Generate) -> Work[list[Completion | Refused]]:
    return lambda dialect: dialect.generate([request])


def _scoring(request: Score) -> Work[list[Scored | Refused]]:
    return lambda dialect: dialect.score([request])


def _choosing(pack: Choose) -> Work[list[list[Choice | Refused]]]:
    return lambda dialect: dialect.choose([pack])


def _short(why: str) -> str:
    """A cause in a line of its own: without the advice that a single server's failure ends with."""
    return why.partition("; nothing was lost")[0].rpartition("stopped answering ")[2].strip("()")
