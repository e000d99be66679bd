"""A model behind an OpenAI-compatible server, asked over HTTP.

Two dialects, told apart by `/v1/models`: vLLM's, which does everything and which `precept model serve` answers, too
(openai_vllm.py), and that of plain chat servers, which generate, and choose from the few likeliest tokens that they
show (openai_chat.py). How requests are retried and given up is in openai_transport.py; several servers of one model
share the work (openai_rotation.py). There is no streaming and no tool use here.

The key comes as a secret object in `options["api_key"]`: whoever reads the environment puts it there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

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
)
from pipeline.engines.fingerprint import fingerprint
from pipeline.engines.openai_loop import LoopThread
from pipeline.engines.openai_rotation import Rotation
from pipeline.engines.openai_server import Dialect, Options
from pipeline.engines.openai_silence import Say
from pipeline.engines.openai_vllm import VllmDialect
from pipeline.options import Wrong, WrongOptions, words

__all__ = ["OpenAIEngine", "Options", "build", "check", "check_server"]
HURRY = 3.0  # seconds that a server has to say which models it has, before a run


def build(settings: EngineSettings) -> OpenAIEngine:
    """Checks the settings; the server is first asked when something is wanted of it. Raises UserError."""
    urls_of(settings)
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


def urls_of(settings: EngineSettings) -> tuple[str, ...]:
    """The addresses of the model's servers. Raises UserError where there is none, or one twice."""
    given = (settings.base_url,) if isinstance(settings.base_url, str) else tuple(settings.base_url)
    if not given or not all(given):
        raise UserError("the openai engine needs base_url (or OPENAI_BASE_URL), like http://localhost:8000/v1")
    if twice := sorted({url for url in given if given.count(url) > 1}):
        raise UserError(f"base_url names {twice[0]} twice; each of several servers has an address of its own")
    return given


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
        self._settings = settings
        self._options = options
        self._loop = LoopThread()
        self._rotation = Rotation(urls_of(settings), settings, options, key)

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
        """Of a server, and as many requests in flight as all of them have."""
        one = self._found().capabilities
        return dataclasses.replace(one, in_flight=one.in_flight * len(urls_of(self._settings)))

    def check(self) -> None:
        """Ask every server for one token. Raises UserError or EngineError saying why there is none: a port may answer
        while the engine behind it is dead."""
        self._loop.run(self._rotation.check())

    def find(self) -> None:
        """Ask every server which models there are. Raises UserError, or else EngineError of one that does not say."""
        self._loop.run(self._rotation.find())

    def canary(self) -> list[float]:
        """Natural log-probabilities of A and B after each of a few fixed questions: to be stored, and compared
        later. Called what it is: a declared revision and canaries, not a fingerprint. Never hash them. None of a
        server that shows no log-probabilities. Of several servers it is the first's: the others are held to it."""
        return list(self._loop.run(self._rotation.introduced()).canaries)

    def tell(self, say: Say) -> None:
        """Have words about a server that does not answer said there; else they are warnings in the log."""
        self._rotation.tell(say)

    def render(self, chat: Chat) -> list[int]:
        async def rendered() -> list[int]:
            dialect = await self._rotation.found()
            return await dialect.render(chat)

        return self._loop.run(rendered())

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        return self._loop.run(self._rotation.generate(requests)) if requests else []

    def choose(self, groups: Sequence[Choose]) -> list[list[Choice | Refused]]:
        return self._loop.run(self._rotation.choose(groups)) if groups else []

    def score(self, requests: Sequence[Score]) -> list[Scored | Refused]:
        return self._loop.run(self._rotation.score(requests)) if requests else []

    def close(self) -> None:
        self._loop.close(self._rotation.close())

    def release(self) -> None:
        """Ask the servers to sleep: vLLM's, started with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1, keeps its
        weights in the machine's memory and gives the device's back. It is woken by the next request. One that has no
        such route keeps what it holds, and that is said."""
        self._loop.run(self._rotation.release())

    def _found(self) -> Dialect:
        return self._loop.run(self._rotation.found())


def _names() -> list[str]:
    return sorted([*Options.model_fields, "api_key"])
