"""One server of a model: its dialect, who it is, and whether it still is who it was.

It is met when it is first asked, and again after every reason for doubt (a failed connection, a pause): before anything
that it said is kept. Of several servers of one model each has to be who the first was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import Field

from constitution.errors import UserError
from pipeline.engines.engine import (
    Capabilities,
    Chat,
    Choice,
    Choose,
    Completion,
    EngineError,
    EngineSettings,
    Generate,
    Refused,
    Score,
    Scored,
    all_answered,
)
from pipeline.engines.openai_address import check_address
from pipeline.engines.openai_chat import ChatDialect, NoLogprobs
from pipeline.engines.openai_identity import QUESTIONS, Identity, canaries
from pipeline.engines.openai_tokens import FolderIds, ServerIds
from pipeline.engines.openai_transport import Patience, RefusedByServer, Transport
from pipeline.engines.openai_vllm import VllmDialect

ALL_OF_IT = ("vllm", "precept")  # who own a model that is asked as vLLM's are: `precept model serve` answers alike
SLEEP_SECONDS = 120.0  # to move a model's weights from a device, or back
PROBE_SECONDS = 60.0  # for one token; a server that first loads its model may need a second run


class AnotherModel(UserError):
    """The server is not who it was, or not who the others of its model are."""


class Options(Patience, frozen=True, extra="forbid"):
    """The engine's own settings, beside those of Patience.

    `dialect` "" asks the server. `tokenizer` is a folder; without one, vLLM is asked for its control tokens, and for
    ids, one small request a chat. What each option does is in docs/servers.md, which a test compares with this.
    `continue_final_message` says that a chat server continues an assistant's unfinished message (vLLM and SGLang do).
    """

    dialect: Literal["", "vllm", "chat"] = ""
    tokenizer: str = ""
    continue_final_message: bool = False
    concurrency: int = Field(32, ge=1)  # requests of one prompt in flight
    prompts_per_request: int = Field(32, ge=1)  # `choose` on vLLM
    requests_in_flight: int = Field(4, ge=1)  # `choose` on vLLM


class Dialect(Protocol):
    """What the engine needs of a server; the calls are batched as the server likes it."""

    capabilities: Capabilities
    context: int | None  # the most tokens that it reads and writes, where it says so

    async def probe(self, deadline: float) -> None:
        """Generate one token, or raise."""

    async def rendered(self) -> tuple[int, ...]:
        """The ids that the server itself makes of the first canary; none where it does not tell."""

    async def render(self, chat: Chat) -> list[int]: ...

    async def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]: ...

    async def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]: ...

    async def score(self, requests: Sequence[Score]) -> list[Scored | Refused]: ...


class Server:
    """Called in one event loop. `reference` is who it has to be where it was not met before: who the first server of
    its model is."""

    def __init__(
        self,
        url: str,
        settings: EngineSettings,
        options: Options,
        key: Any,
        reference: Callable[[], tuple[str, Identity] | None] = lambda: None,
    ) -> None:
        address = check_address(url)
        self._api = address if urlsplit(address).path else f"{address}/v1"
        self._settings = settings
        self._options = options
        self._reference = reference
        self._lock = asyncio.Lock()
        self._dialect: Dialect | None = None
        self._models: list[str] = []
        self._probed = False
        self._asleep = False
        self._listed_first: list[dict[str, Any]] | None = None  # the models, where they were just asked for
        self.known: Identity | None = None  # who the server was when it was first asked
        self._settled = 0  # how many doubts there had been when it was asked last
        connections = options.concurrency + options.requests_in_flight
        variable = getattr(key, "variable", "OPENAI_API_KEY")
        there = key if key is not None and key.get_secret_value() else None
        self.transport = Transport(address, there, options, connections, secret=variable)

    @property
    def host(self) -> str:
        return self.transport.host

    async def release(self) -> None:
        """Ask it to sleep; where it does not, that is said."""
        if self._asleep:
            return
        self._asleep = await self.transport.tell(f"{self._root}/sleep?level=1", SLEEP_SECONDS)
        if not self._asleep:
            self.transport.say(
                f"the server at {self.host} was asked to sleep, and does not: it keeps the memory of its device while "
                "that is needed (start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1)"
            )

    async def _wake(self) -> None:
        if self._asleep and not await self.transport.tell(f"{self._root}/wake_up", SLEEP_SECONDS):
            raise EngineError(f"the server at {self.host} sleeps, and does not wake up")
        self._asleep = False

    @property
    def _root(self) -> str:
        return self._api.removesuffix("/v1")

    async def introduced(self) -> Identity:
        """Who the server is now. Raises AnotherModel where it is not who it was."""
        met_before = self.known is not None
        dialect = await self.ready()
        async with self._lock:
            return await self._meet(dialect) if met_before or self.known is None else self.known

    async def settle(self, dialect: Dialect) -> None:
        """Ask who the server is, where there was reason for doubt since it was asked last."""
        async with self._lock:
            while self.known is None or self._settled != self.transport.doubts:
                await self._meet(dialect)

    async def _meet(self, dialect: Dialect) -> Identity:
        """Ask who the server is. Raises AnotherModel where it is not who it was when it was first asked, or who the
        first server of its model is."""
        doubts = self.transport.doubts
        listed = self._listed_first or await self._list_models()
        self._listed_first = None
        dialect.context = _context(listed, self._settings.model)
        try:
            now = Identity((), await dialect.rendered(), dialect.context)
            if self.known is not None:
                self._refuse_another(now, replace(self.known, canaries=()))
            [choices] = await dialect.choose([QUESTIONS])
            now = replace(now, canaries=canaries(all_answered(choices)))
        except NoLogprobs:
            pass
        except RefusedByServer as refusal:
            raise self.explained(refusal) from None
        if self.known is None:
            self._refuse_unlike(now)
            self.known = now
        self._refuse_another(now, self.known)
        self._settled = doubts
        return now

    def _refuse_unlike(self, now: Identity) -> None:
        """Raise AnotherModel where the first server of the model is another."""
        if (first := self._reference()) is None:
            return
        host, identity = first
        if differences := now.differs(identity):
            raise AnotherModel(
                f"the server at {self.host} is another than the one at {host}: {' and '.join(differences)}. The "
                "servers of one role serve the same model with the same context: see what each of base_url serves"
            )

    def _refuse_another(self, now: Identity, before: Identity) -> None:
        if differences := now.differs(before):
            raise AnotherModel(
                f"the server at {self.host} came back as another: {' and '.join(differences)}. What it said "
                "since then was not kept. Serve again what this run began with, or declare another revision in the "
                "engine's settings"
            )

    async def find(self) -> Dialect:
        """The server's dialect, from the settings or from its list of models."""
        async with self._lock:
            if self._dialect is None:
                name = self._options.dialect
                if not name:
                    self._listed_first = await self._list_models()
                    name = self._dialect_of(self._listed_first)
                self._dialect = self._speaks(name)
            return self._dialect

    async def ready(self) -> Dialect:
        """The dialect of a server that has generated one token, and is who it was."""
        await self._wake()
        dialect = await self.find()
        async with self._lock:
            if not self._probed:
                try:
                    await dialect.probe(min(PROBE_SECONDS, self._options.timeout))
                except RefusedByServer as refusal:
                    raise self.explained(refusal) from None
                except EngineError as failure:
                    raise EngineError(f"asked for one token, the server gave none: {failure}") from None
                self._probed = True
        await self.settle(dialect)
        return dialect

    def _speaks(self, name: str) -> Dialect:
        folder = self._options.tokenizer
        if name == "vllm":
            server = ServerIds(self.transport, self._root, self._settings.model)
            return VllmDialect(
                self.transport,
                self._api,
                self._settings.model,
                FolderIds(Path(folder)) if folder else server,
                server,
                concurrency=self._options.concurrency,
                prompts_per_request=self._options.prompts_per_request,
                requests_in_flight=self._options.requests_in_flight,
            )
        return ChatDialect(
            self.transport,
            self._api,
            self._settings.model,
            FolderIds(Path(folder)) if folder else None,
            concurrency=self._options.concurrency,
            continues=self._options.continue_final_message,
        )

    async def _list_models(self) -> list[dict[str, Any]]:
        """What the server says that it has; some list nothing."""
        try:
            answer = await self.transport.request("GET", f"{self._api}/models")
        except RefusedByServer as refusal:
            if refusal.status in (404, 405):
                return []
            raise
        data = answer.get("data")
        models = [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []
        self._models = sorted(str(model.get("id")) for model in models)
        return models

    def _dialect_of(self, models: list[dict[str, Any]]) -> Literal["vllm", "chat"]:
        if models and not self._settings.model:
            raise UserError(f"name the model to ask {self.host} for; it has {self._listed()}")
        if any(model.get("owned_by") in ALL_OF_IT for model in models):
            if self._settings.model not in self._models:
                raise UserError(self._unknown())
            return "vllm"
        return "chat"

    def explained(self, refusal: RefusedByServer) -> UserError:
        if refusal.status != 404:
            return refusal
        said = f"{self._unknown()} ({refusal})"
        return UserError(said) if self.known is None else AnotherModel(said)

    def _unknown(self) -> str:
        return (
            f"the server at {self.host} knows no model {self._settings.model!r}; it has {self._listed()}. "
            "Set the engine's model to one of them, and see that base_url ends as the server wants it (often in /v1)"
        )

    def _listed(self) -> str:
        return ", ".join(self._models[:20]) or "not said which"


def _context(models: list[dict[str, Any]], name: str) -> int | None:
    """The most tokens that a served model reads and writes, where its server says so."""
    said = next((model.get("max_model_len") for model in models if model.get("id") == name), None)
    return said if type(said) is int and said > 0 else None
