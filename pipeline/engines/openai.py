"""A model behind an OpenAI-compatible server, asked over HTTP.

Two dialects, told apart by `/v1/models`: vLLM's, which does everything and which `precept model serve` answers, too
(openai_vllm.py), and that of plain chat servers, which generate, and choose from the few likeliest tokens that they
show (openai_chat.py). How requests are retried and given up is in openai_transport.py. There is no streaming and no
tool use here.

The key comes as a secret object in `options["api_key"]`: whoever reads the environment puts it there.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from constitution.errors import UserError
from constitution.records import make_id
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
from pipeline.engines.fingerprint import fingerprint
from pipeline.engines.openai_address import check_address
from pipeline.engines.openai_chat import ChatDialect, NoLogprobs
from pipeline.engines.openai_identity import QUESTIONS, Identity, canaries
from pipeline.engines.openai_loop import LoopThread
from pipeline.engines.openai_silence import Say
from pipeline.engines.openai_tokens import FolderIds, ServerIds
from pipeline.engines.openai_transport import Patience, RefusedByServer, Transport
from pipeline.engines.openai_vllm import VllmDialect
from pipeline.options import Wrong, WrongOptions, words

T = TypeVar("T")
HURRY = 3.0  # seconds that a server has to say which models it has, before a run
SLEEP_SECONDS = 120.0  # to move a model's weights from a device, or back
ALL_OF_IT = ("vllm", "precept")  # who own a model that is asked as vLLM's are: `precept model serve` answers alike
PROBE_SECONDS = 60.0  # for one token; a server that first loads its model may need a second run


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


def build(settings: EngineSettings) -> OpenAIEngine:
    """Checks the settings; the server is first asked when something is wanted of it. Raises UserError."""
    if not settings.base_url:
        raise UserError("the openai engine needs base_url (or OPENAI_BASE_URL), like http://localhost:8000/v1")
    given = dict(settings.options)
    key = given.pop("api_key", None)
    if key is not None and not hasattr(key, "get_secret_value"):
        raise UserError("an API key does not belong in the settings file; put it in the environment as OPENAI_API_KEY")
    if key is not None and not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
        variable = getattr(key, "variable", "OPENAI_API_KEY")
        raise UserError(f"{variable} holds a character that no key has (a line break, perhaps); set it again")
    try:
        options = Options.model_validate(given)
    except ValidationError as error:
        wrong = [Wrong(e["loc"], words(e, _names())) for e in error.errors()]
        raise WrongOptions("the openai engine", wrong, _names()) from None
    if options.tokenizer and not Path(options.tokenizer).is_dir():
        raise UserError(f"the engine's option tokenizer names {options.tokenizer}, which is not a folder")
    return OpenAIEngine(settings, options, key)


def check(settings: EngineSettings) -> None:
    """Raise the UserError that `build` would; the server is not asked."""
    build(settings).close()


def check_server(settings: EngineSettings) -> None:
    """Raise the UserError of a server that answers within seconds, and refuses the key or does not have the model."""
    hurried = {**settings.options, "attempts": 1, "timeout": HURRY, "deadline": HURRY}
    engine = build(dataclasses.replace(settings, options=hurried))
    try:
        engine.find()
    except EngineError:
        pass
    finally:
        engine.close()


class OpenAIEngine:
    """See the module. May be called from several threads and from inside a running event loop."""

    def __init__(self, settings: EngineSettings, options: Options, key: Any) -> None:
        address = check_address(settings.base_url)
        self._api = address if urlsplit(address).path else f"{address}/v1"
        self._settings = settings
        self._options = options
        self._loop = LoopThread()
        self._lock = asyncio.Lock()
        self._dialect: Dialect | None = None
        self._models: list[str] = []
        self._probed = False
        self._asleep = False
        self._listed_first: list[dict[str, Any]] | None = None  # the models, where they were just asked for
        self._known: Identity | None = None  # who the server was when it was first asked
        self._settled = 0  # how many doubts there had been when it was asked last
        connections = options.concurrency + options.requests_in_flight
        variable = getattr(key, "variable", "OPENAI_API_KEY")
        there = key if key is not None and key.get_secret_value() else None
        self._transport = Transport(address, there, options, connections, secret=variable)

    @cached_property
    def fingerprint(self) -> str:
        """Not of the weights, which a server does not show: of the model's name, the `revision` that the settings
        declare, the dialect, the dtype and the local tokenizer. `canary` is what notices a silent change."""
        if not self._settings.revision:
            raise UserError(
                f"the weights of {self._settings.model or 'a remote model'} cannot be read over HTTP: declare a "
                "revision in the engine's settings (a commit, a date), and change it when the served model changes"
            )
        settings = self._settings
        parts = {"model": settings.model, "revision": settings.revision, "dtype": settings.dtype}
        if self._options.tokenizer:
            parts["tokenizer"] = fingerprint([Path(self._options.tokenizer)], settings.dtype)
        dialect = self._options.dialect or ("vllm" if isinstance(self._found(), VllmDialect) else "chat")
        return make_id("engine", engine="openai", dialect=dialect, **parts).hex()

    @property
    def capabilities(self) -> Capabilities:
        return self._found().capabilities

    def check(self) -> None:
        """Ask for one token. Raises UserError or EngineError saying why there is none: a port may answer while the
        engine behind it is dead."""
        self._loop.run(self._ready())

    def find(self) -> None:
        """Ask which models there are. Raises UserError or EngineError."""
        self._found()

    def canary(self) -> list[float]:
        """Natural log-probabilities of A and B after each of a few fixed questions: to be stored, and compared
        later. Called what it is: a declared revision and canaries, not a fingerprint. Never hash them. None of a
        server that shows no log-probabilities."""
        return list(self._loop.run(self._introduced()).canaries)

    def tell(self, say: Say) -> None:
        """Have words about a server that does not answer said there; else they are warnings in the log."""
        self._transport.say = say

    def render(self, chat: Chat) -> list[int]:
        return self._loop.run(self._found().render(chat))

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        return self._ask(lambda dialect: dialect.generate(requests)) if requests else []

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        return self._ask(lambda dialect: dialect.choose(groups)) if groups else []

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        return self._ask(lambda dialect: dialect.score(requests)) if requests else []

    def close(self) -> None:
        self._loop.close(self._transport.close())

    def release(self) -> None:
        """Ask the server to sleep: vLLM's, started with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1, keeps its
        weights in the machine's memory and gives the device's back. It is woken by the next request. One that has no
        such route keeps what it holds, and that is said."""
        if self._asleep:
            return
        self._asleep = self._loop.run(self._transport.tell(f"{self._root}/sleep?level=1", SLEEP_SECONDS))
        if not self._asleep:
            self._transport.say(
                f"the server at {self._transport.host} was asked to sleep, and does not: it keeps the memory of its "
                "device while that is needed (start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1)"
            )

    async def _wake(self) -> None:
        if self._asleep and not await self._transport.tell(f"{self._root}/wake_up", SLEEP_SECONDS):
            raise EngineError(f"the server at {self._transport.host} sleeps, and does not wake up")
        self._asleep = False

    @property
    def _root(self) -> str:
        return self._api.removesuffix("/v1")

    def _ask(self, call: Callable[[Dialect], Coroutine[Any, Any, T]]) -> T:
        async def ask() -> T:
            dialect = await self._ready()
            try:
                answers = await call(dialect)
            except RefusedByServer as refusal:
                raise self._explained(refusal) from None
            await self._settle(dialect)  # what another server said is not handed on
            return answers

        return self._loop.run(ask())

    async def _introduced(self) -> Identity:
        """Who the server is now. Raises UserError where it is not who it was."""
        met_before = self._known is not None
        dialect = await self._ready()
        async with self._lock:
            return await self._meet(dialect) if met_before or self._known is None else self._known

    async def _settle(self, dialect: Dialect) -> None:
        """Ask who the server is, where there was reason for doubt since it was asked last."""
        async with self._lock:
            while self._known is None or self._settled != self._transport.doubts:
                await self._meet(dialect)

    async def _meet(self, dialect: Dialect) -> Identity:
        """Ask who the server is. Raises UserError where it is not who it was when it was first asked."""
        doubts = self._transport.doubts
        listed = self._listed_first or await self._list_models()
        self._listed_first = None
        dialect.context = _context(listed, self._settings.model)
        try:
            now = Identity((), await dialect.rendered(), dialect.context)
            if self._known is not None:
                self._refuse_another(now, replace(self._known, canaries=()))
            [choices] = await dialect.choose([QUESTIONS])
            now = replace(now, canaries=canaries(all_answered(choices)))
        except NoLogprobs:
            pass
        except RefusedByServer as refusal:
            raise self._explained(refusal) from None
        if self._known is None:
            self._known = now
        self._refuse_another(now, self._known)
        self._settled = doubts
        return now

    def _refuse_another(self, now: Identity, before: Identity) -> None:
        if differences := now.differs(before):
            raise UserError(
                f"the server at {self._transport.host} came back as another: {' and '.join(differences)}. What it said "
                "since then was not kept. Serve again what this run began with, or declare another revision in the "
                "engine's settings"
            )

    def _found(self) -> Dialect:
        return self._loop.run(self._find())

    async def _find(self) -> Dialect:
        """The server's dialect, from the settings or from its list of models."""
        async with self._lock:
            if self._dialect is None:
                name = self._options.dialect
                if not name:
                    self._listed_first = await self._list_models()
                    name = self._dialect_of(self._listed_first)
                self._dialect = self._speaks(name)
            return self._dialect

    async def _ready(self) -> Dialect:
        """The dialect of a server that has generated one token, and is who it was."""
        await self._wake()
        dialect = await self._find()
        async with self._lock:
            if not self._probed:
                try:
                    await dialect.probe(min(PROBE_SECONDS, self._options.timeout))
                except RefusedByServer as refusal:
                    raise self._explained(refusal) from None
                except EngineError as failure:
                    raise EngineError(f"asked for one token, the server gave none: {failure}") from None
                self._probed = True
        await self._settle(dialect)
        return dialect

    def _speaks(self, name: str) -> Dialect:
        folder = self._options.tokenizer
        if name == "vllm":
            server = ServerIds(self._transport, self._root, self._settings.model)
            return VllmDialect(
                self._transport,
                self._api,
                self._settings.model,
                FolderIds(Path(folder)) if folder else server,
                server,
                concurrency=self._options.concurrency,
                prompts_per_request=self._options.prompts_per_request,
                requests_in_flight=self._options.requests_in_flight,
            )
        return ChatDialect(
            self._transport,
            self._api,
            self._settings.model,
            FolderIds(Path(folder)) if folder else None,
            concurrency=self._options.concurrency,
            continues=self._options.continue_final_message,
        )

    async def _list_models(self) -> list[dict[str, Any]]:
        """What the server says that it has; some list nothing."""
        try:
            answer = await self._transport.request("GET", f"{self._api}/models")
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
            raise UserError(f"name the model to ask {self._transport.host} for; it has {self._listed()}")
        if any(model.get("owned_by") in ALL_OF_IT for model in models):
            if self._settings.model not in self._models:
                raise UserError(self._unknown())
            return "vllm"
        return "chat"

    def _explained(self, refusal: RefusedByServer) -> UserError:
        return UserError(f"{self._unknown()} ({refusal})") if refusal.status == 404 else refusal

    def _unknown(self) -> str:
        return (
            f"the server at {self._transport.host} knows no model {self._settings.model!r}; it has {self._listed()}. "
            "Set the engine's model to one of them, and see that base_url ends as the server wants it (often in /v1)"
        )

    def _listed(self) -> str:
        return ", ".join(self._models[:20]) or "not said which"


def _context(models: list[dict[str, Any]], name: str) -> int | None:
    """The most tokens that a served model reads and writes, where its server says so."""
    said = next((model.get("max_model_len") for model in models if model.get("id") == name), None)
    return said if type(said) is int and said > 0 else None


def _names() -> list[str]:
    return sorted([*Options.model_fields, "api_key"])
