"""An HTTP endpoint as the reward.

    POST url  {"prompts": [messages, ...], "answers": [text, ...]}  ->  {"rewards": [number, ...]}

A call is tried again, with waits that grow, on a transport failure, a status 408, 425, 429 or 5xx, and an answer that
is no JSON object, until its `timeout` seconds are over, all attempts together. Redirects are not followed and no proxy
is taken from the environment (`pipeline.engines.openai_transport`).

A bearer key is in the environment variable that `api_key_env` names; a key written out is refused, because specs are
written into job files. What the endpoint computes cannot be known from here: the fingerprint is that
of the URL and of `revision`, which is the user's to change when the endpoint does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from constitution.errors import UserError
from constitution.records import make_id
from pipeline.engines.engine import EngineError
from pipeline.engines.openai_address import check_address
from pipeline.engines.openai_loop import LoopThread
from pipeline.engines.openai_transport import Patience, Transport
from pipeline.keys import secret
from pipeline.rewards.options import Options, read
from pipeline.rewards.reward import Dialogue


class HttpOptions(Options):
    url: str
    revision: str = ""
    api_key_env: str = ""
    timeout: float = Field(60.0, gt=0)  # seconds a call may take, with its repetitions
    backoff: float = Field(0.5, ge=0)  # seconds before the second attempt; doubled for each further one


def check(options: Mapping[str, Any]) -> None:
    """The address is one. Nobody is asked."""
    _read(options)


def fingerprint(options: Mapping[str, Any]) -> str:
    given = _read(options)
    return make_id("reward_http", url=given.url.rstrip("/"), revision=given.revision).hex()


def build(options: Mapping[str, Any]) -> HttpReward:
    return HttpReward(_read(options), fingerprint(options))


class HttpReward:
    """See the module."""

    def __init__(self, options: HttpOptions, digest: str) -> None:
        self.fingerprint = digest
        self.name = self._url = options.url.rstrip("/")
        self._timeout = options.timeout
        patience = Patience(timeout=options.timeout, deadline=options.timeout, backoff=options.backoff)
        self._loop = LoopThread()
        key = secret(options.api_key_env) if options.api_key_env else None
        variable = options.api_key_env or "api_key_env"
        self._transport = Transport(self._url, key, patience, 1, setting="url", secret=variable)

    def score(self, prompts: Sequence[Dialogue], answers: Sequence[str]) -> list[float]:
        """Raises UserError where no rewards come back: in time, or at all."""
        body = {"prompts": [[dict(message) for message in prompt] for prompt in prompts], "answers": list(answers)}
        try:
            answer = self._loop.run(self._ask(body))
        except EngineError as error:
            raise UserError(f"reward {self._url}: {error}") from None
        if "rewards" not in answer:
            raise UserError(
                f'reward {self._url}: the answer has no "rewards", only {", ".join(sorted(answer)) or "nothing"}; '
                'it must be {"rewards": [a number for each answer]}'
            )
        rewards: list[float] = answer["rewards"]  # looked at by `checked`, which takes Python's truth for 1, as JSON
        if isinstance(rewards, list) and any(isinstance(reward, bool) for reward in rewards):  # does not
            raise UserError(f"reward {self._url}: an answer was rewarded with true or false; it must be a number")
        return rewards

    async def _ask(self, body: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout + 1):  # the transport's own deadline first: it says more
                return await self._transport.request("POST", self._url, body)
        except TimeoutError:
            raise EngineError(f"no answer within {self._timeout:g} s") from None

    def close(self) -> None:
        self._loop.close(self._transport.close())


def _read(options: Mapping[str, Any]) -> HttpOptions:
    if "api_key" in options:
        raise UserError(
            "reward (kind http): a key does not belong in a spec, which is written into files; put it into the "
            "environment, and the variable's name into api_key_env"
        )
    given = read(HttpOptions, "http", options)
    check_address(given.url, setting="url", secret=given.api_key_env or "api_key_env")
    if given.api_key_env and secret(given.api_key_env) is None:
        raise UserError(f"reward (kind http): the environment has no {given.api_key_env}; set it to the endpoint's key")
    return given
